//! Charts as SVG. Colours are Okabe and Ito's.

use longhand_tasks::confusion::ClassScore;
use maud::{Markup, html};

use super::{Bin, Evaluated};

const BLUE: &str = "#0072b2";
const ORANGE: &str = "#e69f00";
const GREEN: &str = "#009e73";
/// Points of a square plot's side.
const SIDE: f64 = 320.0;
/// Points around a plot, for its labels.
const MARGIN: f64 = 48.0;
/// Points of a whole bar.
const BAR: f64 = 320.0;
/// Points of a row of three bars.
const ROW: f64 = 56.0;
/// Points of a bar's height.
const THICK: f64 = 14.0;

/// The background of a cell for a share from 0 to 1, light enough that its number can be read.
pub(super) fn shade(share: f64) -> String {
    format!("background: rgba(0, 114, 178, {:.2})", 0.55 * share)
}

/// Precision, recall and F1 of each label as bars, with their values.
pub(super) fn bars(classes: &[(String, ClassScore)]) -> Markup {
    let widest = classes.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
    let left = 16.0 + 9.0 * widest as f64;
    let (width, height) = (left + BAR + 150.0, ROW * classes.len() as f64 + 8.0);
    html! {
        svg viewBox=(format!("0 0 {width} {height}")) width=(width) role="img"
            aria-label="Precision, recall and F1 of each label" {
            @for (place, (name, class)) in classes.iter().enumerate() {
                @let top = ROW * place as f64 + 4.0;
                text x=(left - 8.0) y=(top + 28.0) text-anchor="end" { (name) }
                @for (bar, (words, value, colour)) in three(class).into_iter().enumerate() {
                    @let y = top + bar as f64 * (THICK + 2.0);
                    rect x=(left) y=(y) width=(format!("{:.1}", BAR * value)) height=(THICK)
                        fill=(colour) {}
                    text x=(format!("{:.1}", left + BAR * value + 6.0)) y=(y + 12.0) {
                        (format!("{words} {value:.3}"))
                    }
                }
            }
        }
    }
}

fn three(class: &ClassScore) -> [(&'static str, f64, &'static str); 3] {
    [
        ("precision", class.precision, BLUE),
        ("recall", class.recall, ORANGE),
        ("F1", class.f1, GREEN),
    ]
}

/// The share of right answers by probability, beside the diagonal.
pub(super) fn reliability(bins: &[Bin]) -> Markup {
    let whole = SIDE + 2.0 * MARGIN;
    let x = |share: f64| MARGIN + SIDE * share;
    let y = |share: f64| MARGIN + SIDE * (1.0 - share);
    let width = SIDE / bins.len() as f64;
    html! {
        svg viewBox=(format!("0 0 {whole} {whole}")) width=(whole) role="img"
            aria-label="Share of right answers by probability" {
            @for (place, bin) in bins.iter().enumerate().filter(|(_, bin)| bin.answers > 0) {
                @let left = x(place as f64 / bins.len() as f64);
                rect x=(format!("{left:.1}")) y=(format!("{:.1}", y(bin.right)))
                    width=(format!("{:.1}", width - 1.0)) height=(format!("{:.1}", SIDE * bin.right))
                    fill=(BLUE) {
                    title {
                        (bin.answers) " answers, mean probability "
                        (format!("{:.3}, {:.3} right", bin.probability, bin.right))
                    }
                }
                text x=(format!("{:.1}", left + width / 2.0)) y=(format!("{:.1}", y(bin.right) - 4.0))
                    text-anchor="middle" { (bin.answers) }
            }
            line x1=(x(0.0)) y1=(y(0.0)) x2=(x(1.0)) y2=(y(1.0)) stroke="#1a1a1a"
                stroke-dasharray="6 4" {}
            (axes(["0", "probability", "1"], ["0", "right", "1"]))
        }
    }
}

/// The loss by step.
pub(super) fn curve(points: &[Evaluated]) -> Markup {
    let whole = [2.0 * SIDE + 2.0 * MARGIN, SIDE + 2.0 * MARGIN];
    let last = points.iter().map(|point| point.step).max().unwrap_or(1).max(1);
    let losses = || points.iter().map(|point| point.loss).filter(|loss| loss.is_finite());
    let (low, high) = (losses().fold(f64::MAX, f64::min), losses().fold(f64::MIN, f64::max));
    let range = (high - low).max(f64::MIN_POSITIVE);
    let place = |point: &Evaluated| {
        let x = MARGIN + 2.0 * SIDE * point.step as f64 / last as f64;
        let y = MARGIN + SIDE * (high - point.loss) / range;
        format!("{x:.1},{y:.1}")
    };
    let finite = points.iter().filter(|point| point.loss.is_finite());
    let line = finite.map(place).collect::<Vec<_>>().join(" ");
    html! {
        svg viewBox=(format!("0 0 {} {}", whole[0], whole[1])) width=(whole[0]) role="img"
            aria-label="Loss on the held-out part by step" {
            polyline points=(line) fill="none" stroke=(BLUE) stroke-width="2" {}
            (wide_axes(last, low, high))
        }
    }
}

fn axes(across: [&str; 3], up: [&str; 3]) -> Markup {
    let (near, far) = (MARGIN, MARGIN + SIDE);
    html! {
        line x1=(near) y1=(far) x2=(far) y2=(far) stroke="#1a1a1a" {}
        line x1=(near) y1=(near) x2=(near) y2=(far) stroke="#1a1a1a" {}
        @for (place, words) in across.iter().enumerate() {
            text x=(near + SIDE * place as f64 / 2.0) y=(far + 20.0) text-anchor="middle" { (words) }
        }
        @for (place, words) in up.iter().enumerate() {
            text x=(near - 6.0) y=(far - SIDE * place as f64 / 2.0) text-anchor="end" { (words) }
        }
    }
}

fn wide_axes(last: u64, low: f64, high: f64) -> Markup {
    let (near, far, bottom) = (MARGIN, MARGIN + 2.0 * SIDE, MARGIN + SIDE);
    html! {
        line x1=(near) y1=(bottom) x2=(far) y2=(bottom) stroke="#1a1a1a" {}
        line x1=(near) y1=(near) x2=(near) y2=(bottom) stroke="#1a1a1a" {}
        text x=(near) y=(bottom + 20.0) text-anchor="middle" { "0" }
        text x=(far) y=(bottom + 20.0) text-anchor="middle" { (last) }
        text x=(near - 6.0) y=(bottom) text-anchor="end" { (format!("{low:.3}")) }
        text x=(near - 6.0) y=(near + 4.0) text-anchor="end" { (format!("{high:.3}")) }
    }
}
