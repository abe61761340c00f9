//! Flow control by credits: how many more tokens a client takes.

/// The credits of one request. Each token takes one; the end of an answer takes none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Credits {
    /// The client did not ask for flow control: its socket alone decides.
    Unlimited,
    /// Tokens that may still be sent.
    Left(u64),
}

impl Credits {
    /// Whether a token may be sent.
    pub(super) fn has_one(self) -> bool {
        self != Self::Left(0)
    }

    /// Takes the credit of one token.
    pub(super) fn spend(&mut self) {
        if let Self::Left(left) = self {
            *left = left.saturating_sub(1);
        }
    }

    /// Adds credits; false if the request has no flow control.
    pub(super) fn grant(&mut self, tokens: u64) -> bool {
        match self {
            Self::Unlimited => false,
            Self::Left(left) => {
                *left = left.saturating_add(tokens);
                true
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::Credits;

    proptest! {
        #[test]
        fn never_more_tokens_are_sent_than_were_granted(steps in prop::collection::vec(prop::option::of(0..50_u64), 0..200)) {
            let mut credits = Credits::Left(0);
            let (mut granted, mut sent) = (0, 0);
            for step in steps {
                match step {
                    Some(tokens) => {
                        prop_assert!(credits.grant(tokens));
                        granted += tokens;
                    }
                    None if credits.has_one() => {
                        credits.spend();
                        sent += 1;
                    }
                    None => prop_assert_eq!(sent, granted),
                }
                prop_assert!(sent <= granted);
                prop_assert_eq!(credits, Credits::Left(granted - sent));
            }
        }
    }

    #[test]
    fn grants_do_not_overflow() {
        let mut credits = Credits::Left(u64::MAX);
        assert!(credits.grant(u64::MAX));
        assert_eq!(credits, Credits::Left(u64::MAX));
    }

    #[test]
    fn without_flow_control_nothing_is_counted_or_granted() {
        let mut credits = Credits::Unlimited;
        credits.spend();
        assert!(credits.has_one());
        assert!(!credits.grant(5));
    }
}
