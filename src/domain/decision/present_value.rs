//! Money over time: net present value and payback.
//!
//! Compounding is continuous. With a rate r a year the force of interest is
//! `δ = ln(1 + r)` per 365 days, so money due in t days is worth `e^(−δt/365)`
//! of itself today, and money that arrives evenly from now on for P days is
//! worth `(1 − e^(−x))/x` of itself, `x = δP/365`. Source: Kellison, "The
//! Theory of Interest", on the force of interest and on continuous annuities,
//! `ā = (1 − v^n)/δ`.

const DAYS_A_YEAR: f64 = 365.0;

/// A cost paid on day 0 and a revenue that arrives after delivery.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CashFlow {
    /// Money, above 0.
    pub cost: f64,
    /// Money, 0 or more.
    pub revenue: f64,
    /// Days from the cost to the delivery, above 0.
    pub delivered_day: f64,
    /// Days over which the revenue arrives evenly from the delivery on, above
    /// 0; `None`: all of it on the day of the delivery.
    pub period_days: Option<f64>,
}

/// The force of interest a day, of percent a year (0 or more).
fn daily_force(annual_rate_percent: f64) -> f64 {
    libm::log1p(annual_rate_percent / 100.0) / DAYS_A_YEAR
}

impl CashFlow {
    /// What the revenue is worth on day 0, in money:
    /// `revenue · e^(−δT/365) · (1 − e^(−x))/x`, without the last factor where
    /// all of it arrives at once. At a rate of 0 it is the revenue itself,
    /// which both factors tend to.
    pub fn present_value(&self, annual_rate_percent: f64) -> f64 {
        let force = daily_force(annual_rate_percent);
        let spread = force * self.period_days.unwrap_or(0.0);
        // (1 − e^(−x))/x tends to 1 and never exceeds it.
        let even = if spread > 0.0 { (-libm::expm1(-spread) / spread).min(1.0) } else { 1.0 };
        self.revenue * libm::exp(-force * self.delivered_day) * even
    }

    /// Net present value, in money: present value of the revenue − cost.
    pub fn npv(&self, annual_rate_percent: f64) -> f64 {
        self.present_value(annual_rate_percent) - self.cost
    }

    /// Days from day 0 until the revenue received so far covers the cost;
    /// `None` where all of it never does. Undiscounted:
    /// `T + P · cost / revenue`.
    pub fn payback_days(&self) -> Option<f64> {
        self.discounted_payback_days(0.0)
    }

    /// The same with the revenue worth what it is on day 0. With δ a day and
    /// `y = P · cost · e^(δT) / revenue` it is `T − ln(1 − δy)/δ`, which tends
    /// to `T + y` as δ does to 0.
    pub fn discounted_payback_days(&self, annual_rate_percent: f64) -> Option<f64> {
        if self.present_value(annual_rate_percent) < self.cost {
            return None;
        }
        let Some(period) = self.period_days else { return Some(self.delivered_day) };
        let force = daily_force(annual_rate_percent);
        let undiscounted = period * (self.cost / self.revenue);
        let y = undiscounted * libm::exp(force * self.delivered_day);
        let z = force * y;
        // −ln(1 − z)/z is 1 in the limit. Floats may pass the ends by an ulp.
        let slower = if z > 0.0 { -libm::log1p(-z) / z } else { 1.0 };
        Some(self.delivered_day + (y * slower).max(undiscounted).min(period))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn near(value: f64, expected: f64) {
        assert!((value / expected - 1.0).abs() < 1e-13, "{value} is not {expected}");
    }

    /// By hand, 1000 for 1500 after a year at 10 %: at once it is worth
    /// 1500/1.1 = 1363.6363…; over the year after it
    /// (1 − 1/1.1)/ln 1.1 = 0.09090909…/0.09531017… = 0.95382351… of that,
    /// 1300.66843…. Of the latter 1000 is there once
    /// 1 − 1.1^(−s) = 1000 · 1.1 · ln 1.1 / 1500 = 0.06989413…, after
    /// s = 0.76022165… years more.
    #[test]
    fn a_vector_by_hand() {
        let at_once =
            CashFlow { cost: 1_000.0, revenue: 1_500.0, delivered_day: 365.0, period_days: None };
        near(at_once.npv(10.0), 363.636_363_636_363_6);
        assert_eq!(at_once.npv(0.0), 500.0);
        assert_eq!(at_once.payback_days(), Some(365.0));
        assert_eq!(at_once.discounted_payback_days(10.0), Some(365.0));
        // 1500/1.6 is not 1000 any more.
        assert_eq!(at_once.discounted_payback_days(60.0), None);

        let evenly = CashFlow { period_days: Some(365.0), ..at_once };
        near(evenly.npv(10.0), 300.668_432_304_595_46);
        assert_eq!(evenly.npv(0.0), 500.0);
        near(evenly.payback_days().unwrap(), 365.0 + 365.0 / 1.5);
        near(evenly.discounted_payback_days(10.0).unwrap(), 642.480_903_964_383_5);
        assert_eq!(CashFlow { revenue: 999.0, ..evenly }.payback_days(), None);
        assert_eq!(CashFlow { revenue: 0.0, ..evenly }.payback_days(), None);
    }

    prop_compose! {
        fn any_flow()(
            cost in 1e-6..1e12_f64, ratio in 0.0..5.0_f64, delivered_day in 1e-9..=3_650.0_f64,
            period_days in prop::option::of(1e-9..=3_650.0_f64),
        ) -> CashFlow {
            CashFlow { cost, revenue: ratio * cost, delivered_day, period_days }
        }
    }

    proptest! {
        #[test]
        fn a_rate_of_zero_discounts_nothing(flow in any_flow()) {
            prop_assert_eq!(flow.npv(0.0), flow.revenue - flow.cost);
            prop_assert_eq!(flow.payback_days().is_some(), flow.revenue >= flow.cost);
        }

        #[test]
        fn a_tiny_rate_is_near_zero(flow in any_flow(), exponent in -300..-12) {
            let rate = 10_f64.powi(exponent);
            let (tiny, zero) = (flow.present_value(rate), flow.present_value(0.0));
            prop_assert!((tiny - zero).abs() <= zero * 1e-9, "{} {}", tiny, zero);
            if let (Some(tiny), Some(zero)) =
                (flow.discounted_payback_days(rate), flow.payback_days())
            {
                prop_assert!((tiny - zero).abs() <= zero * 1e-6, "{} {}", tiny, zero);
            }
        }

        #[test]
        fn a_higher_rate_is_worth_less(
            flow in any_flow(), rate in 0.0..500.0_f64, more in 0.0..500.0_f64,
        ) {
            let (low, high) = (flow.npv(rate), flow.npv(rate + more));
            // Beside what an ulp of the revenue may be.
            prop_assert!(high <= low + flow.revenue * 1e-15);
            if more > 1.0 && flow.delivered_day > 1.0 && flow.revenue > 0.1 * flow.cost {
                prop_assert!(high < low);
            }
        }

        #[test]
        fn discounting_never_pays_back_sooner(flow in any_flow(), rate in 0.0..=1_000.0_f64) {
            let discounted = flow.discounted_payback_days(rate);
            prop_assert_eq!(discounted.is_some(), flow.npv(rate) >= 0.0);
            let Some(discounted) = discounted else { return Ok(()) };
            let plain = flow.payback_days().unwrap();
            let end = flow.delivered_day + flow.period_days.unwrap_or(0.0);
            prop_assert!(flow.delivered_day <= plain && plain <= discounted && discounted <= end);
            // On that day the discounted revenue is the cost.
            if let Some(period) = flow.period_days.filter(|period| *period > 1.0) {
                let days = discounted - flow.delivered_day;
                let part = flow.revenue * days / period;
                let so_far = CashFlow { revenue: part, period_days: Some(days), ..flow };
                let worth = so_far.present_value(rate);
                prop_assert!((worth / flow.cost - 1.0).abs() < 1e-6, "{} {}", worth, flow.cost);
            }
        }
    }
}
