//! What a product reads and writes: views of slices.

/// A matrix that is only read: rows of adjacent elements, or columns of them.
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
        assert_eq!(data.len(), rows * cols, "a {rows} × {cols} matrix");
        Self { data, rows, cols, row_stride: cols, col_stride: 1 }
    }

    /// `rows × cols` with `row_stride` elements from row to row; `data` begins at the first one.
    ///
    /// # Panics
    /// If the last row does not fit.
    pub fn strided(data: &'a [f32], rows: usize, cols: usize, row_stride: usize) -> Self {
        assert!(rows == 0 || (rows - 1) * row_stride + cols <= data.len(), "matrix out of bounds");
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

/// A matrix that is written: rows of adjacent elements.
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
        assert_eq!(data.len(), rows * cols, "a {rows} × {cols} matrix");
        Self { data, rows, cols, row_stride: cols }
    }

    /// `rows × cols` with `row_stride` elements from row to row; `data` begins at the first one.
    ///
    /// # Panics
    /// If the last row does not fit, or rows would overlap.
    pub fn strided(data: &'a mut [f32], rows: usize, cols: usize, row_stride: usize) -> Self {
        assert!(rows <= 1 || row_stride >= cols, "rows of {cols} that begin {row_stride} apart");
        assert!(rows == 0 || (rows - 1) * row_stride + cols <= data.len(), "matrix out of bounds");
        Self { data, rows, cols, row_stride }
    }
}
