//! Scratch that all threads of a region share, taken before the region and given back after it, and
//! lists in a thread's buffers.

use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};

use crate::buffer::{Buffer, Buffers};
use crate::cpu::Cpu;

/// A buffer of `len` elements whose values are unspecified.
pub(crate) fn take(cpu: &Cpu, len: usize) -> Buffer {
    cpu.buffers().take(len)
}

/// Gives a buffer back.
pub(crate) fn give(cpu: &Cpu, buffer: Buffer) {
    cpu.buffers().give(buffer);
}

/// A list of bounded length in a buffer of the thread.
pub(crate) struct List<T> {
    buffer: Buffer,
    len: usize,
    entries: PhantomData<T>,
}

impl<T: Copy> List<T> {
    const SLOT: usize = size_of::<T>().div_ceil(size_of::<f32>());

    /// An empty list with room for `most` entries.
    pub(crate) fn new(buffers: &mut Buffers, most: usize) -> Self {
        const { assert!(align_of::<T>() <= 64 && size_of::<T>().is_multiple_of(4)) };
        Self { buffer: buffers.take(most * Self::SLOT), len: 0, entries: PhantomData }
    }

    pub(crate) fn clear(&mut self) {
        self.len = 0;
    }

    /// Appends an entry. Panics if the list is full.
    pub(crate) fn push(&mut self, entry: T) {
        assert!((self.len + 1) * Self::SLOT <= self.buffer.len(), "a list is full");
        // SAFETY: the slot is within the buffer, which begins on a cache line.
        unsafe { self.buffer.as_mut_ptr().cast::<T>().add(self.len).write(entry) };
        self.len += 1;
    }

    /// Gives its buffer back.
    pub(crate) fn give(self, buffers: &mut Buffers) {
        buffers.give(self.buffer);
    }
}

impl<T> Deref for List<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        // SAFETY: the first `len` slots were written by `push`.
        unsafe { std::slice::from_raw_parts(self.buffer.as_ptr().cast(), self.len) }
    }
}

impl<T> DerefMut for List<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        // SAFETY: as in `deref`, and the borrow is exclusive.
        unsafe { std::slice::from_raw_parts_mut(self.buffer.as_mut_ptr().cast(), self.len) }
    }
}
