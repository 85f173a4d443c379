//! Scratch that all threads of a region share: taken from the buffers of the processor before the
//! region and given back after it.

use std::sync::{Mutex, PoisonError};

use crate::buffer::Buffer;
use crate::cpu::Cpu;

/// A buffer of `len` elements whose values are unspecified.
pub(crate) fn take(cpu: &Cpu, len: usize) -> Buffer {
    let taken = Mutex::new(Buffer::default());
    cpu.for_each(1, |worker, _| {
        *taken.lock().unwrap_or_else(PoisonError::into_inner) = worker.buffers.take(len);
    });
    taken.into_inner().unwrap_or_else(PoisonError::into_inner)
}

/// Gives a buffer back.
pub(crate) fn give(cpu: &Cpu, buffer: Buffer) {
    let given = Mutex::new(buffer);
    cpu.for_each(1, |worker, _| {
        let mut buffer = given.lock().unwrap_or_else(PoisonError::into_inner);
        worker.buffers.give(std::mem::take(&mut *buffer));
    });
}
