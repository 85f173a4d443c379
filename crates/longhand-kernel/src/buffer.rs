//! Cache-line-aligned buffers, and the free list that hands them out again.

use std::ops::{Deref, DerefMut};

/// One 64-byte cache line.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Line([f32; 16]);

/// A growable slice of `f32` that begins on a cache line.
#[derive(Default)]
pub struct Buffer {
    lines: Vec<Line>,
    len: usize,
}

impl Buffer {
    /// `len` zeros.
    pub fn zeros(len: usize) -> Self {
        Self { lines: vec![Line([0.0; 16]); len.div_ceil(16)], len }
    }

    /// Changes the length; new elements past the old capacity are zero, others keep old values.
    pub fn resize(&mut self, len: usize) {
        let lines = len.div_ceil(16);
        if lines > self.lines.len() {
            self.lines.resize(lines, Line([0.0; 16]));
        }
        self.len = len;
    }

    /// How many elements fit without allocating.
    pub fn capacity(&self) -> usize {
        self.lines.len() * 16
    }
}

impl Deref for Buffer {
    type Target = [f32];
    fn deref(&self) -> &[f32] {
        // SAFETY: `Line` is sixteen `f32` without padding, and `len <= 16 * lines.len()`.
        unsafe { std::slice::from_raw_parts(self.lines.as_ptr().cast(), self.len) }
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [f32] {
        // SAFETY: as in `deref`, and the borrow is exclusive.
        unsafe { std::slice::from_raw_parts_mut(self.lines.as_mut_ptr().cast(), self.len) }
    }
}

impl Clone for Buffer {
    fn clone(&self) -> Self {
        let mut copy = Buffer::zeros(self.len);
        copy.copy_from_slice(self);
        copy
    }
}

impl From<&[f32]> for Buffer {
    fn from(values: &[f32]) -> Self {
        let mut buffer = Buffer::zeros(values.len());
        buffer.copy_from_slice(values);
        buffer
    }
}

/// A free list: buffers given back are handed out again, so that a loop of equal steps allocates
/// in its first round only.
#[derive(Default)]
pub struct Buffers {
    free: Vec<Buffer>,
}

impl Buffers {
    /// A buffer of `len` elements whose values are unspecified.
    pub fn take(&mut self, len: usize) -> Buffer {
        let fits = (0..self.free.len())
            .filter(|&i| self.free[i].capacity() >= len)
            .min_by_key(|&i| self.free[i].capacity());
        match fits {
            // A far larger buffer would be missed by the next large request.
            Some(i) if self.free[i].capacity() <= 2 * len + 1024 => {
                let mut buffer = self.free.swap_remove(i);
                buffer.resize(len);
                buffer
            }
            _ => Buffer::zeros(len),
        }
    }

    /// A buffer of `len` zeros.
    pub fn take_zeros(&mut self, len: usize) -> Buffer {
        let mut buffer = self.take(len);
        buffer.fill(0.0);
        buffer
    }

    /// Gives a buffer back.
    pub fn give(&mut self, buffer: Buffer) {
        if buffer.capacity() > 0 {
            self.free.push(buffer);
        }
    }
}
