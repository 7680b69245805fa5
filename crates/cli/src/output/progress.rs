//! Bars and spinners on stderr, where a person sits in front of it.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::Output;

/// A bar over `total` bytes; invisible where nobody would see it move.
pub(crate) fn bar(output: &Output, label: &str, total: u64) -> ProgressBar {
    let bar = ProgressBar::new(total);
    if !output.is_lively() {
        bar.set_draw_target(ProgressDrawTarget::hidden());
        return bar;
    }
    let template = "{msg} {wide_bar:.cyan/dim} {bytes}/{total_bytes} {bytes_per_sec} {eta}";
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    bar.set_message(label.to_owned());
    bar
}

/// A spinner with a label.
pub(crate) fn spinner(output: &Output, label: &str) -> ProgressBar {
    let spinner = ProgressBar::new_spinner();
    if output.is_lively() {
        spinner.set_message(label.to_owned());
        spinner.enable_steady_tick(Duration::from_millis(120));
    } else {
        spinner.set_draw_target(ProgressDrawTarget::hidden());
    }
    spinner
}
