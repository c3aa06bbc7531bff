use jiff::Timestamp;

use super::object;

object! {
    /// Kubernetes `Condition`: one aspect of an object's state as a controller sees it.
    #[derive(Default)]
    pub struct Condition {
        /// Which aspect, such as `Ready`.
        #[serde(rename = "type")]
        condition_type: String = required,
        /// `True`, `False` or `Unknown`.
        status: String = required,
        /// The generation of the object that was looked at.
        observed_generation: Option<i64>,
        /// When `status` last changed.
        last_transition_time: Option<Timestamp>,
        /// A word for programs.
        reason: String,
        /// A sentence for people.
        message: String,
    }
}
