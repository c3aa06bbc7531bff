//! From the selectors of v3 policies to expressions over the flat labels of endpoints: an endpoint's own labels, over
//! what its profiles lend it. Namespace labels arrive there with the prefix `pcns.`, those of service accounts with `pcsa.`.

use super::Selector;
use super::expression::Expression;
use crate::kubernetes::{NAMESPACE_LABEL_PREFIX, SERVICE_ACCOUNT_LABEL_PREFIX};

/// The label of everything that lives in a namespace.
const NAMESPACE: &str = "projectcalico.org/namespace";
/// The label with the name of a workload's service account.
const SERVICE_ACCOUNT: &str = "projectcalico.org/serviceaccount";

impl Selector {
    /// What a `namespaceSelector` means on endpoints: label names get the prefix `pcns.`, `all()` becomes "is in a
    /// namespace" and `global()` "is in none".
    #[must_use]
    pub fn for_namespaces(&self) -> Self {
        let in_a_namespace = || Expression::Has(NAMESPACE.to_owned());
        let prefixed = self.0.expression.map_labels(&|label| format!("{NAMESPACE_LABEL_PREFIX}{label}"));
        Self::new(prefixed.replace_leaves(&|leaf| match leaf {
            Expression::All => Some(in_a_namespace()),
            Expression::Global => Some(in_a_namespace().negated()),
            _ => None,
        }))
    }

    /// What a selector of service accounts means on endpoints: label names get the prefix `pcsa.`.
    #[must_use]
    pub fn for_service_accounts(&self) -> Self {
        self.with_label_prefix(SERVICE_ACCOUNT_LABEL_PREFIX)
    }
}

/// What a policy as a whole applies to: its `selector`, restricted to its namespace if it has one, to the namespaces of
/// its `namespaceSelector`, and to the workloads of its `serviceAccountSelector`. `None` stands for an empty field.
pub fn policy_selector(
    namespace: Option<&str>,
    selector: Option<&Selector>,
    namespace_selector: Option<&Selector>,
    service_account_selector: Option<&Selector>,
) -> Selector {
    let parts = [
        selector.cloned(),
        namespace.map(|name| Selector::equals(NAMESPACE, name)),
        namespace_selector.map(Selector::for_namespaces),
        service_account_selector.map(Selector::for_service_accounts),
    ];
    all_of(parts).unwrap_or_default()
}

/// The criteria of one side of a rule that end up in the selector of its IP set.
#[derive(Debug, Clone, Copy, Default)]
pub struct PeerSelector<'a> {
    /// `selector`
    pub selector: Option<&'a Selector>,
    /// Whether there is a `notSelector`; it is matched by itself, but limits the peer to the namespace.
    pub has_not_selector: bool,
    /// `namespaceSelector`
    pub namespace_selector: Option<&'a Selector>,
    /// `serviceAccounts.names`
    pub service_account_names: &'a [String],
    /// `serviceAccounts.selector`
    pub service_account_selector: Option<&'a Selector>,
}

impl PeerSelector<'_> {
    /// The selector of the endpoints that the side means, or `None` if it puts no such condition on them. `namespace` is
    /// that of the policy, if it has one: without a `namespaceSelector`, a rule's selectors stay within it.
    pub fn compile(&self, namespace: Option<&str>) -> Option<Selector> {
        let own = all_of([self.service_accounts(), self.selector.cloned()]);
        let bound = own.is_some() || self.has_not_selector || self.namespace_selector.is_some();
        let namespaces = match self.namespace_selector {
            Some(selector) => Some(selector.for_namespaces()),
            None => namespace.map(|name| Selector::equals(NAMESPACE, name)),
        };
        all_of([namespaces.filter(|_| bound), own])
    }

    fn service_accounts(&self) -> Option<Selector> {
        let named = (!self.service_account_names.is_empty())
            .then(|| Selector::one_of(SERVICE_ACCOUNT, self.service_account_names.iter().cloned()));
        all_of([self.service_account_selector.map(Selector::for_service_accounts), named])
    }
}

fn all_of<const N: usize>(parts: [Option<Selector>; N]) -> Option<Selector> {
    parts.into_iter().flatten().reduce(|left, right| left.and(&right))
}
