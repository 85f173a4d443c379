//! The forward pass with packed weights, for decode steps and prefill alike. A panel of both
//! products holds all gates of its units, and the cell follows at once.

use std::marker::PhantomData;

use super::{Active, Run};
use crate::cpu::{Cpu, Worker};
use crate::recurrence::layout::Shape;
use crate::recurrence::panels::UNITS;
use crate::recurrence::{Cell, CellPanels};
use crate::scratch::List;
use crate::simd::{Kernel, Vector};
use crate::weights::Addend::There;
use crate::weights::{NOTHING_ADDED, Operand, PANEL, add_product, pays};

/// Rows whose sums are in the scratch buffer at a time.
const ROW_GROUP: usize = 48;

/// Runs the recurrence; each thread computes units of its own.
pub(super) fn forward<C: Cell>(cpu: &Cpu, run: &Run, weights: &CellPanels, x: &[f32]) {
    let (shape, rows) = (&run.shape, run.sequence.rows());
    let known = weights.projected.is_some();
    let x = if known { &[] } else { x };
    let input = Operand::of_rows(cpu, weights.input.format(), if known { 0 } else { rows }, &[x]);
    let work = C::GATES * shape.hidden() * (shape.input + shape.units);
    let run = &Run { gathered: weights.projected, ..*run };
    let body = |worker: &mut Worker| time_loop::<C>(run, weights, &input, worker);
    if cpu.threads() > 1 && pays(weights.format(), work, rows) {
        cpu.run(body);
    } else {
        cpu.for_each(1, |worker, _| body(worker));
    }
    input.give(cpu);
}

fn time_loop<C: Cell>(run: &Run, weights: &CellPanels, input: &Operand, worker: &mut Worker) {
    let (shape, sequence) = (&run.shape, run.sequence);
    let own = worker.share(weights.recurrent.count(), 1);
    let of_panel = PANEL / C::GATES;
    let units = own.start * of_panel..(own.end * of_panel).min(shape.padded_hidden());
    let previous =
        Operand::room(worker.buffers, weights.format(), sequence.batch * shape.heads, shape.units);
    let sums = worker.buffers.take(ROW_GROUP * PANEL);
    let mut active = List::new(worker.buffers, sequence.batch);
    let projected = weights.projected.is_some() || sequence.time > 1;
    let mut step = Step::<C> { run, weights, input, previous, sums, projected, cell: PhantomData };
    // SAFETY: units are this thread's own; what it reads of others was written before the last
    // barrier.
    unsafe {
        if worker.index == 0 && sequence.lengths.is_some() {
            run.clear_padding();
        }
        run.take_states(units.clone());
        if sequence.time > 1 && weights.projected.is_none() {
            own.clone().for_each(|panel| step.project(worker, panel));
        }
        let mut times = sequence.steps().peekable();
        while let Some(t) = times.next() {
            run.active(t, &mut active);
            step.take_hidden(worker, &active);
            for panel in own.clone() {
                for (group, rows) in active.chunks(ROW_GROUP).enumerate() {
                    step.compute(worker, panel, group * ROW_GROUP, rows);
                }
            }
            // The region's end is the last meeting.
            if times.peek().is_some() {
                worker.barrier();
            }
        }
        run.hand_on(units);
    }
    active.give(worker.buffers);
    worker.buffers.give(step.sums);
    step.previous.release(worker.buffers);
}

struct Step<'a, C> {
    run: &'a Run<'a>,
    weights: &'a CellPanels<'a>,
    /// `[T·B, D]`: the inputs as the product reads them.
    input: &'a Operand,
    /// For each active row and head: h of the position before.
    previous: Operand,
    /// `[ROW_GROUP, PANEL]`: preactivations of one panel's gates.
    sums: crate::buffer::Buffer,
    /// Whether the input's part of the gates is there, and not computed beside the recurrent one.
    projected: bool,
    cell: PhantomData<C>,
}

impl<C: Cell> Step<'_, C> {
    /// The input's part of a panel's gates at all positions.
    ///
    /// # Safety
    /// The panel is this thread's own.
    unsafe fn project(&self, worker: &Worker, panel: usize) {
        let (stride, rows) = (self.run.shape.gate_stride(), self.run.sequence.rows());
        let places = panel_places(&self.run.shape, panel);
        // SAFETY: the panel's columns of the gates' rows.
        unsafe {
            let to = self.run.gates.add(panel * PANEL);
            let (level, panels, rows) = (worker.level, self.weights.input, [0, 1, rows]);
            let nothing = NOTHING_ADDED;
            add_product(level, panels, panel, self.input, rows, nothing, to, stride, places);
        }
    }

    /// Quantises h of the position before for every active row and head.
    ///
    /// # Safety
    /// The rows that `active` points to are written.
    unsafe fn take_hidden(&mut self, worker: &Worker, active: &[Active]) {
        let Shape { heads, units, .. } = self.run.shape;
        for (i, active) in active.iter().enumerate() {
            for head in 0..heads {
                // SAFETY: a row of N = heads · units values.
                let h =
                    unsafe { std::slice::from_raw_parts(active.hidden.add(head * units), units) };
                self.previous.fill(worker.level, i * heads + head, h);
            }
        }
    }

    /// A panel over some rows, the first of which is number `first` of the active ones.
    ///
    /// # Safety
    /// The panel is this thread's own.
    unsafe fn compute(&mut self, worker: &Worker, panel: usize, first: usize, rows: &[Active]) {
        let shape = &self.run.shape;
        let places = panel_places(shape, panel);
        let head = shape.block(panel * PANEL / C::GATES / UNITS, UNITS).head;
        let sums = self.sums.as_mut_ptr();
        let (level, count) = (worker.level, rows.len());
        level.run(Begin { step: self, panel, rows, sums });
        // SAFETY: the sums hold a group of rows.
        unsafe {
            if !self.projected {
                let panels = self.weights.input;
                let (from, to) = (rows[0].row, rows[count - 1].row);
                if to - from + 1 == count {
                    let chosen = [from, 1, count];
                    add_product(
                        level, panels, panel, self.input, chosen, There, sums, PANEL, places,
                    );
                } else {
                    for (i, active) in rows.iter().enumerate() {
                        let (chosen, to) = ([active.row, 1, 1], sums.add(i * PANEL));
                        add_product(
                            level, panels, panel, self.input, chosen, There, to, PANEL, places,
                        );
                    }
                }
            }
            let chosen = [first * shape.heads + head, shape.heads, count];
            let panels = self.weights.recurrent;
            let h = &self.previous;
            add_product(level, panels, panel, h, chosen, There, sums, PANEL, places);
        }
        level.run(Cells { step: self, panel, rows, sums });
    }
}

/// Places of a panel.
fn panel_places(shape: &Shape, panel: usize) -> usize {
    PANEL.min(shape.gate_columns() - panel * PANEL)
}

/// sums = biases, and the input's part where it is there already.
struct Begin<'a, 'b, C> {
    step: &'a Step<'b, C>,
    panel: usize,
    rows: &'a [Active],
    sums: *mut f32,
}

impl<C: Cell> Kernel for Begin<'_, '_, C> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<V: Vector>(self) {
        let shape = &self.step.run.shape;
        let places = panel_places(shape, self.panel);
        for at in (0..places).step_by(V::LANES) {
            let place = self.panel * PANEL + at;
            let (index, gate) = (place / (UNITS * C::GATES), place / UNITS % C::GATES);
            let block =
                shape.block(index * (UNITS / V::LANES) + place % UNITS / V::LANES, V::LANES);
            let row = shape.weight_row(block, gate);
            // SAFETY: biases are read up to the block's count; rows of gates have the panel.
            unsafe {
                let mut bias = V::zero();
                if block.count > 0 {
                    for from in self.step.weights.biases.iter().filter(|from| !from.is_empty()) {
                        bias = bias.add(V::load_first(from.as_ptr().add(row), block.count));
                    }
                }
                let (projected, sums) = (self.step.projected, self.sums.add(at));
                for (i, active) in self.rows.iter().enumerate() {
                    let mut sum = bias;
                    if projected {
                        sum = sum.add(V::load(active.input.add(place)));
                    }
                    sum.store(sums.add(i * PANEL));
                }
            }
        }
    }
}

/// The cell behind the products.
struct Cells<'a, 'b, C> {
    step: &'a Step<'b, C>,
    panel: usize,
    rows: &'a [Active],
    sums: *const f32,
}

impl<C: Cell> Kernel for Cells<'_, '_, C> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<V: Vector>(self) {
        let run = self.step.run;
        let blocks = panel_places(&run.shape, self.panel) / (UNITS * C::GATES);
        let first = self.panel * PANEL / (UNITS * C::GATES);
        for index in 0..blocks {
            for part in 0..UNITS / V::LANES {
                let block = run.shape.block((first + index) * (UNITS / V::LANES) + part, V::LANES);
                let place = run.place::<C>(block, V::LANES);
                let sums = self.sums.wrapping_add(index * C::GATES * UNITS + part * V::LANES);
                for (i, active) in self.rows.iter().enumerate() {
                    // SAFETY: the block is this thread's own, and its sums are complete.
                    unsafe {
                        place.cell::<C, V>(active, |gate| {
                            V::load(sums.add(i * PANEL + gate * UNITS))
                        });
                    }
                }
            }
        }
    }
}
