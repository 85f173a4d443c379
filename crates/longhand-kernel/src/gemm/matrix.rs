//! The operands of a product: views of slices as matrices.

/// A matrix to read: rows of adjacent elements, or columns of adjacent elements.
#[derive(Clone, Copy)]
pub struct Matrix<'a> {
    pub(super) data: &'a [f32],
    pub(super) rows: usize,
    pub(super) cols: usize,
    pub(super) row_stride: usize,
    pub(super) col_stride: usize,
}

impl<'a> Matrix<'a> {
    /// `rows × cols`, row after row.
    ///
    /// # Panics
    /// If `data` has another length.
    pub fn new(data: &'a [f32], rows: usize, cols: usize) -> Self {
        assert_eq!(Some(data.len()), rows.checked_mul(cols), "a {rows} × {cols} matrix");
        Self { data, rows, cols, row_stride: cols, col_stride: 1 }
    }

    /// `rows × cols` with `row_stride` elements from row to row; `data` begins at the first one.
    ///
    /// # Panics
    /// If the last row does not fit.
    pub fn strided(data: &'a [f32], rows: usize, cols: usize, row_stride: usize) -> Self {
        assert!(fits(data.len(), rows, cols, row_stride), "matrix out of bounds");
        Self { data, rows, cols, row_stride, col_stride: 1 }
    }

    /// How many rows it has.
    pub(crate) fn row_count(&self) -> usize {
        self.rows
    }

    /// The transpose, without moving anything.
    pub fn t(self) -> Self {
        Self {
            rows: self.cols,
            cols: self.rows,
            row_stride: self.col_stride,
            col_stride: self.row_stride,
            ..self
        }
    }

    /// Some of the rows.
    pub fn rows(self, range: std::ops::Range<usize>) -> Self {
        assert!(range.end <= self.rows, "rows out of bounds");
        let start = (range.start * self.row_stride).min(self.data.len());
        Self { data: &self.data[start..], rows: range.len(), ..self }
    }

    /// Some of the columns.
    pub fn columns(self, range: std::ops::Range<usize>) -> Self {
        self.t().rows(range).t()
    }
}

/// A matrix to write: rows of adjacent elements.
pub struct MatrixMut<'a> {
    pub(super) data: &'a mut [f32],
    pub(super) rows: usize,
    pub(super) cols: usize,
    pub(super) row_stride: usize,
}

impl<'a> MatrixMut<'a> {
    /// `rows × cols`, row after row.
    ///
    /// # Panics
    /// If `data` has another length.
    pub fn new(data: &'a mut [f32], rows: usize, cols: usize) -> Self {
        assert_eq!(Some(data.len()), rows.checked_mul(cols), "a {rows} × {cols} matrix");
        Self { data, rows, cols, row_stride: cols }
    }

    /// `rows × cols` with `row_stride` elements from row to row; `data` begins at the first one.
    ///
    /// # Panics
    /// If the last row does not fit, or rows would overlap.
    pub fn strided(data: &'a mut [f32], rows: usize, cols: usize, row_stride: usize) -> Self {
        assert!(rows <= 1 || row_stride >= cols, "rows of {cols} that begin {row_stride} apart");
        assert!(fits(data.len(), rows, cols, row_stride), "matrix out of bounds");
        Self { data, rows, cols, row_stride }
    }
}

/// Whether `len` elements hold `rows` rows of `cols` elements that begin `row_stride` apart.
fn fits(len: usize, rows: usize, cols: usize, row_stride: usize) -> bool {
    let Some(before_last) = rows.checked_sub(1) else { return true };
    let end = before_last.checked_mul(row_stride).and_then(|start| start.checked_add(cols));
    end.is_some_and(|end| end <= len)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[should_panic(expected = "matrix")]
    fn sizes_whose_product_overflows_are_refused() {
        Matrix::new(&[], 1 << (usize::BITS / 2), 1 << (usize::BITS / 2));
    }

    #[test]
    fn a_last_row_beyond_the_data_does_not_fit() {
        assert!(fits(0, 0, 7, 9) && fits(7, 1, 7, 9) && fits(16, 2, 7, 9));
        assert!(!fits(15, 2, 7, 9) && !fits(0, 1, 1, 0));
        assert!(!fits(usize::MAX, 3, 1, usize::MAX / 2 + 1));
    }
}
