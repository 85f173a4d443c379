//! Numeric operations, forward and backward, with a plain reference beside each fast form.
