//! Cache-line-aligned buffers, and the free list that hands them out again.

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;
use std::sync::Arc;

/// As aligned as a cache line.
#[repr(align(64))]
struct Line;

/// Bytes of a cache line.
const LINE: usize = align_of::<Line>();
/// Elements of a cache line.
const ELEMENTS: usize = LINE / size_of::<f32>();
/// With more cache lines than this (a quarter of a megabyte), a buffer may be a part of a
/// larger slab of memory.
const LARGE: usize = 1 << 12;

/// A slice of `f32` that begins on a cache line, an empty one too.
pub struct Buffer {
    start: NonNull<f32>,
    /// Length in elements, as the caller asked for it.
    len: usize,
    /// Cache lines from `start` on that are this buffer's own.
    lines: usize,
    /// Cache lines of the slab that it is a part of.
    of: usize,
    /// The memory that it is a part of; none for an empty buffer.
    slab: Option<Arc<Slab>>,
}

/// A piece of memory, which goes back to the system with the last buffer in it.
struct Slab {
    allocated: NonNull<u8>,
    layout: Layout,
    start: NonNull<f32>,
    lines: usize,
}

// SAFETY: a slab is only an address; its memory is reached through buffers.
unsafe impl Send for Slab {}
// SAFETY: as above.
unsafe impl Sync for Slab {}
// SAFETY: no two buffers share a cache line, and elements are plain numbers.
unsafe impl Send for Buffer {}
// SAFETY: as above; what changes elements needs an exclusive borrow.
unsafe impl Sync for Buffer {}

impl Slab {
    fn new(lines: usize) -> Self {
        // Aligned by hand: zeros that are asked for with a larger alignment are written one by
        // one, and pages that are never used would take memory.
        let bytes = lines.checked_mul(LINE).and_then(|bytes| bytes.checked_add(LINE));
        let layout = bytes.and_then(|bytes| Layout::from_size_align(bytes, 16).ok());
        let Some(layout) = layout else { panic!("a buffer of {lines} cache lines") };
        // SAFETY: the size is not zero.
        let Some(allocated) = NonNull::new(unsafe { alloc_zeroed(layout) }) else {
            handle_alloc_error(layout)
        };
        let aligned = allocated.align_offset(LINE);
        // SAFETY: one cache line more than is used was allocated.
        let start = unsafe { allocated.add(aligned) }.cast();
        Self { allocated, layout, start, lines }
    }
}

impl Drop for Slab {
    fn drop(&mut self) {
        // SAFETY: allocated with this layout, and no buffer is left in it.
        unsafe { dealloc(self.allocated.as_ptr(), self.layout) }
    }
}

impl Buffer {
    /// A buffer of `len` zeros.
    pub fn zeros(len: usize) -> Self {
        if len == 0 {
            return Self::default();
        }
        let slab = Slab::new(len.div_ceil(ELEMENTS));
        let (start, lines) = (slab.start, slab.lines);
        Self { start, len, lines, of: lines, slab: Some(Arc::new(slab)) }
    }

    /// Changes the length; new elements past the old capacity are zero, others keep old values.
    pub fn resize(&mut self, len: usize) {
        if len > self.capacity() {
            let mut larger = Self::zeros(len);
            self.len = self.capacity();
            larger[..self.len].copy_from_slice(self);
            *self = larger;
        }
        self.len = len;
    }

    /// How many elements fit without allocating.
    pub fn capacity(&self) -> usize {
        self.lines * ELEMENTS
    }

    /// Whether it has its memory to itself.
    fn is_whole(&self) -> bool {
        self.lines == self.of
    }

    /// Keeps the first cache lines, and gives the others.
    fn cut(&mut self, lines: usize) -> Self {
        assert!(lines <= self.lines, "a part of a buffer");
        // SAFETY: within the buffer, or one past its end.
        let start = unsafe { self.start.add(lines * ELEMENTS) };
        let Self { of, ref slab, .. } = *self;
        let rest = Self { start, len: 0, lines: self.lines - lines, of, slab: slab.clone() };
        self.lines = lines;
        self.len = self.len.min(self.capacity());
        rest
    }

    /// Whether `next` begins where this buffer ends, in the same slab.
    fn meets(&self, next: &Self) -> bool {
        match (&self.slab, &next.slab) {
            (Some(slab), Some(of_next)) => {
                let end = self.start.as_ptr().wrapping_add(self.capacity());
                Arc::ptr_eq(slab, of_next) && end == next.start.as_ptr()
            }
            _ => false,
        }
    }
}

impl Default for Buffer {
    fn default() -> Self {
        Self { start: NonNull::<Line>::dangling().cast(), len: 0, lines: 0, of: 0, slab: None }
    }
}

impl Deref for Buffer {
    type Target = [f32];
    fn deref(&self) -> &[f32] {
        // SAFETY: `len <= 16 * lines`, the lines are this buffer's own, and were zeroed first.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.len) }
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [f32] {
        // SAFETY: as in `deref`, and the borrow is exclusive.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.len) }
    }
}

impl Clone for Buffer {
    fn clone(&self) -> Self {
        Buffer::from(&self[..])
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
/// in its first rounds only. Large ones are cut from larger ones and joined again when they come
/// back, so that what is needed at different times shares memory.
pub struct Buffers {
    /// Free small buffers by [`Class`]; a decoded token takes dozens.
    small: [Vec<Buffer>; Class::COUNT],
    large: Vec<Buffer>,
}

/// A size of small buffers: 1 to 8 cache lines, then four sizes for each power of two.
#[derive(Clone, Copy)]
struct Class(usize);

impl Class {
    /// Up to the largest of small buffers.
    const COUNT: usize = 4 * (LARGE.ilog2() as usize - 1) + 1;

    /// The smallest class that holds `lines` cache lines (`lines` > 0).
    fn of(lines: usize) -> Self {
        let shift = (usize::BITS - (lines - 1).leading_zeros()).saturating_sub(3) as usize;
        Self(4 * shift + lines.div_ceil(1 << shift))
    }

    fn lines(self) -> usize {
        let shift = self.0.saturating_sub(5) / 4;
        (self.0 - 4 * shift) << shift
    }
}

impl Default for Buffers {
    fn default() -> Self {
        Self { small: [const { Vec::new() }; Class::COUNT], large: Vec::new() }
    }
}

impl Buffers {
    /// A buffer of `len` elements whose values are unspecified. It may be a part of a larger piece
    /// of memory, which is whole again only when it has been given back here.
    pub fn take(&mut self, len: usize) -> Buffer {
        let lines = len.div_ceil(ELEMENTS);
        if lines <= LARGE {
            return self.take_whole(len);
        }
        let Some(i) = self.smallest(lines, |_| true) else { return Buffer::zeros(len) };
        let mut buffer = self.large.swap_remove(i);
        // The rest of a close fit would only keep the whole from being joined again.
        if buffer.lines - lines > lines / 16 {
            let rest = buffer.cut(lines);
            self.large.push(rest);
        }
        buffer.resize(len);
        buffer
    }

    /// As [`Buffers::take`], with memory of its own: for what leaves, and may never come back.
    pub fn take_whole(&mut self, len: usize) -> Buffer {
        let lines = len.div_ceil(ELEMENTS);
        if lines == 0 {
            return Buffer::default();
        }
        if lines <= LARGE {
            let class = Class::of(lines);
            let found = self.small[class.0].pop();
            let mut buffer = found.unwrap_or_else(|| Buffer::zeros(class.lines() * ELEMENTS));
            buffer.len = len;
            return buffer;
        }
        match self.smallest(lines, Buffer::is_whole) {
            // A far larger buffer would be missed by the next large request.
            Some(i) if self.large[i].lines <= 2 * lines + ELEMENTS => {
                let mut buffer = self.large.swap_remove(i);
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

    /// Gives a buffer back. A small one that was not made here goes back to the system, unless it is
    /// as large as one that was: whoever asks for its size is handed a larger one, so that a loop that
    /// brings one each time would fill the list.
    pub fn give(&mut self, mut buffer: Buffer) {
        if buffer.lines == 0 {
            return;
        }
        buffer.len = 0;
        if buffer.lines <= LARGE && buffer.is_whole() {
            let class = Class::of(buffer.lines);
            if class.lines() == buffer.lines {
                self.small[class.0].push(buffer);
            }
            return;
        }
        if !buffer.is_whole() {
            let mut i = 0;
            while i < self.large.len() {
                let other = &self.large[i];
                let (before, after) = (other.meets(&buffer), buffer.meets(other));
                if before || after {
                    let other = self.large.swap_remove(i);
                    buffer.lines += other.lines;
                    if before {
                        buffer.start = other.start;
                    }
                } else {
                    i += 1;
                }
            }
        }
        self.large.push(buffer);
    }

    /// The index of the smallest free large buffer of at least `lines` cache lines.
    fn smallest(&self, lines: usize, fits: impl Fn(&Buffer) -> bool) -> Option<usize> {
        let free = self.large.iter().enumerate();
        let fitting = free.filter(|(_, buffer)| buffer.lines >= lines && fits(buffer));
        fitting.min_by_key(|(_, buffer)| buffer.lines).map(|(i, _)| i)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MANY: usize = 2 * LARGE * ELEMENTS;

    #[test]
    fn a_class_is_as_large_as_what_is_asked_of_it() {
        for lines in 1..=LARGE {
            let class = Class::of(lines);
            assert!(class.0 < Class::COUNT && class.lines() >= lines);
            assert!(class.lines() < lines + lines.div_ceil(4), "{lines}");
        }
        let mut buffers = Buffers::default();
        for len in [2, 150, 16 * 33, 16 * (LARGE - 1), 16 * LARGE] {
            let buffer = buffers.take(len);
            assert_eq!(buffer.len(), len);
            let start = buffer.as_ptr();
            buffers.give(buffer);
            assert_eq!(buffers.take_whole(len - 1).as_ptr(), start, "{len}");
        }
    }

    #[test]
    fn a_loop_that_brings_buffers_of_its_own_does_not_fill_the_list() {
        for lines in 1..200 {
            let mut buffers = Buffers::default();
            for _ in 0..5 {
                buffers.give(Buffer::zeros(lines * ELEMENTS));
                drop(buffers.take_whole(lines * ELEMENTS));
            }
            let kept: usize = buffers.small.iter().map(Vec::len).sum();
            assert_eq!(kept, 0, "{lines} lines");
        }
    }

    #[test]
    fn a_buffer_is_zero_aligned_and_keeps_its_values() {
        for len in [0, 1, 16, 17, 1000, MANY + 3] {
            let mut buffer = Buffer::zeros(len);
            assert_eq!(buffer.len(), len);
            assert!(buffer.as_ptr().addr().is_multiple_of(LINE));
            assert!(buffer.iter().all(|&x| x == 0.0));
            buffer.fill(2.0);
            let copy = buffer.clone();
            buffer.resize(len + 40);
            assert_eq!(buffer[..len], copy[..]);
            assert!(buffer[copy.capacity().min(len + 40)..].iter().all(|&x| x == 0.0));
        }
    }

    #[test]
    fn large_buffers_share_memory_and_small_ones_do_not() {
        let mut buffers = Buffers::default();
        let whole = buffers.take(4 * MANY);
        let start = whole.as_ptr();
        buffers.give(whole);
        let mut parts: Vec<Buffer> = (0..4).map(|_| buffers.take(MANY)).collect();
        assert!(buffers.large.is_empty(), "four parts are the whole");
        for (i, part) in parts.iter_mut().enumerate() {
            part.fill(i as f32);
        }
        assert!((0..4).all(|i| parts[i].iter().all(|&x| x == i as f32)));
        // The middle ones first, then the ends.
        for i in [1, 1, 0, 0] {
            buffers.give(parts.remove(i));
        }
        assert_eq!(buffers.large.len(), 1);
        assert_eq!(buffers.take(4 * MANY).as_ptr(), start);

        buffers.give(Buffer::zeros(4 * MANY));
        let small = buffers.take(100);
        let own = buffers.take_whole(MANY);
        assert!(small.is_whole() && own.is_whole());
        let part = buffers.take(MANY);
        assert!(!part.is_whole());
        // The rest of a cut buffer is not given to a caller that keeps it.
        assert!(buffers.take_whole(3 * MANY).is_whole());
        drop(buffers);
        assert_eq!(part.len(), MANY, "the memory stays with the part");
    }
}
