//! Adapts the number of compute threads to the number of free cores.
//!
//! ggml's threads spin while they wait for each other, so if another program uses one of the cores, fewer threads are
//! much faster. The next step leaves out as many threads as waited for a core; after a pause, half of the missing ones
//! come back. The pause is a multiple of the duration of the contended reading, because that is what a failed attempt
//! costs. The multiple doubles with every contended reading and halves with every calm one: a core that was busy for a
//! moment costs a thread for a moment, and a core that stays busy is seldom tried. The tuner is pure: it has no clock
//! and no threads.

use std::time::Duration;

use mullama_ffi::CpuContention;

/// Minimum number of waiting threads from which fewer threads are better. A thread that shares its core with one other
/// thread waits half of the time.
const CONTENDED: f64 = 0.4;
/// Maximum length of the pause, as a multiple of the duration of the contended reading: failed attempts take at most
/// this fraction of the time.
const LONGEST_PAUSE_FACTOR: u32 = 16;
/// Maximum pause. If every core is busy, a single step with all threads can take seconds.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// The number of threads for each step.
#[derive(Debug)]
pub(crate) struct ThreadTuner {
    most: u32,
    threads: u32,
    /// Remaining time until missing threads may come back.
    pause: Duration,
    /// Length of the next pause, as a multiple of the duration of the reading that causes it.
    pause_factor: u32,
}

impl ThreadTuner {
    /// Starts with all threads.
    pub(crate) fn new(most: u32) -> Self {
        Self { most, threads: most, pause: Duration::ZERO, pause_factor: 1 }
    }

    /// How many threads the next step should have.
    pub(crate) fn threads(&self) -> u32 {
        self.threads
    }

    /// Records that a step took this long, and the contention reading if the step completed one.
    pub(crate) fn learn(&mut self, reading: Option<CpuContention>, took: Duration) {
        self.pause = self.pause.saturating_sub(took);
        let Some(CpuContention { waiting, threads, over }) = reading else { return };
        if waiting >= CONTENDED {
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "saturates; not negative")]
            let surplus = (waiting.round() as u32).max(1);
            self.threads = self.threads.min(threads.saturating_sub(surplus)).max(1);
            self.pause = over.saturating_mul(self.pause_factor).min(LONGEST_PAUSE);
            self.pause_factor = (2 * self.pause_factor).min(LONGEST_PAUSE_FACTOR);
            return;
        }
        if threads == self.most {
            self.pause_factor = (self.pause_factor / 2).max(1);
        }
        if self.pause.is_zero() {
            self.threads += (self.most - self.threads).div_ceil(2);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const READING: Duration = Duration::from_millis(16);

    fn read(tuner: &mut ThreadTuner, waiting: f64, over: Duration) {
        let threads = tuner.threads();
        tuner.learn(Some(CpuContention { waiting, threads, over }), over);
    }

    /// Simulates readings of 16 ms on a machine with so many free cores; returns the share of time with too many
    /// threads.
    fn run(tuner: &mut ThreadTuner, free: u32, seconds: u32) -> f64 {
        let readings = seconds * 1000 / 16;
        let contended = (0..readings).filter(|_| {
            let waiting = f64::from(tuner.threads().saturating_sub(free));
            read(tuner, waiting, READING);
            waiting > 0.0
        });
        f64::from(u32::try_from(contended.count()).expect("few")) / f64::from(readings)
    }

    #[test]
    fn as_many_threads_leave_as_wait_for_a_core() {
        for (most, waiting, left) in [(2, 1.0, 1), (8, 1.2, 7), (8, 4.1, 4), (4, 30.0, 1), (2, 0.5, 1), (16, 8.0, 8)] {
            let mut tuner = ThreadTuner::new(most);
            read(&mut tuner, waiting, READING);
            assert_eq!(tuner.threads(), left, "{waiting} of {most} waited");
        }
    }

    #[test]
    fn a_reader_that_uses_a_core_now_and_then_costs_no_thread() {
        let mut tuner = ThreadTuner::new(2);
        for _ in 0..1000 {
            read(&mut tuner, 0.3, READING);
        }
        assert_eq!(tuner.threads(), 2);
    }

    #[test]
    fn waiting_threads_are_subtracted_from_the_number_that_the_step_ran_with() {
        let mut tuner = ThreadTuner::new(16);
        tuner.learn(Some(CpuContention { waiting: 1.0, threads: 4, over: READING }), READING);
        assert_eq!(tuner.threads(), 3);
    }

    #[test]
    fn steps_without_a_reading_only_shorten_the_pause() {
        let mut tuner = ThreadTuner::new(2);
        read(&mut tuner, 1.0, READING);
        for _ in 0..1000 {
            tuner.learn(None, READING);
            assert_eq!(tuner.threads(), 1);
        }
        read(&mut tuner, 0.0, READING);
        assert_eq!(tuner.threads(), 2);
    }

    #[test]
    fn once_cores_are_free_all_threads_come_back_however_many_there_were() {
        for most in [2, 8, 16, 64] {
            let mut tuner = ThreadTuner::new(most);
            run(&mut tuner, 1, 10);
            run(&mut tuner, most, 1);
            assert_eq!(tuner.threads(), most);
        }
    }

    #[test]
    fn the_number_of_threads_stays_near_the_number_of_free_cores_and_is_seldom_higher() {
        for (most, free) in [(2, 1), (4, 3), (8, 7), (8, 3), (16, 12)] {
            let mut tuner = ThreadTuner::new(most);
            let above = run(&mut tuner, free, 60);
            assert!(above < 0.08, "{above} of the time with more than {free} of {most}");
            assert!((free - 1..=most).contains(&tuner.threads()), "{}", tuner.threads());
        }
    }

    /// How many calm milliseconds after a contended reading of this length it takes until both threads are back.
    fn pause(tuner: &mut ThreadTuner, over: Duration) -> usize {
        read(tuner, 1.0, over);
        let back = (1..100_000).find(|_| {
            read(tuner, 0.0, Duration::from_millis(1));
            tuner.threads() == 2
        });
        back.expect("the thread comes back")
    }

    #[test]
    fn the_pause_is_as_long_as_the_contended_reading_and_doubles_up_to_sixteen_times() {
        let mut tuner = ThreadTuner::new(2);
        let pauses = [16, 32, 64, 128, 256, 256];
        assert_eq!(pauses.map(|_| pause(&mut tuner, READING)), pauses);
    }

    #[test]
    fn the_pause_never_exceeds_half_a_minute() {
        let mut tuner = ThreadTuner::new(2);
        assert_eq!(pause(&mut tuner, Duration::from_secs(700)), 30_000);
    }

    #[test]
    fn readings_that_stay_calm_shorten_the_next_pause_again() {
        let mut tuner = ThreadTuner::new(2);
        for _ in 0..5 {
            pause(&mut tuner, READING);
        }
        for _ in 0..5 {
            read(&mut tuner, 0.0, READING);
        }
        assert_eq!(pause(&mut tuner, READING), 16);
    }

    #[test]
    fn no_thread_comes_back_while_the_last_one_waits_for_a_core() {
        let mut tuner = ThreadTuner::new(2);
        for _ in 0..10_000 {
            read(&mut tuner, 0.5, READING);
        }
        assert_eq!(tuner.threads(), 1);
    }
}
