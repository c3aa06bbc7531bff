//! An explanation for people.

use std::fmt::Write as _;

use calc::cluster::Place;
use calc::explain::{Explanation, PolicyView, Ruling, Stage};

/// So many policies without a say are named.
const SHOWN: usize = 5;

/// The whole explanation.
pub(crate) fn explanation_text(answer: &Explanation) -> String {
    let mut text = format!("{}\n", answer.packet);
    let _ = writeln!(text, "{} -> {}", place(&answer.from), place(&answer.to));
    let verdict = answer.verdict.to_string().to_uppercase();
    let _ = writeln!(text, "{verdict}: {}", answer.because);
    for (index, stage) in answer.stages.iter().enumerate() {
        text += &stage_text(index + 1, stage);
    }
    text.push('\n');
    if let Some(route) = &answer.route {
        let _ = writeln!(text, "Route on node {}: {route}", route.node);
    }
    for translation in &answer.nat {
        let _ = writeln!(text, "NAT at {}: {}", translation.at, translation.what);
    }
    for note in &answer.notes {
        let _ = writeln!(text, "Note: {note}");
    }
    text
}

fn place(place: &Place) -> String {
    match place {
        Place::Workload(workload) => format!("{place} (node {}, {})", workload.node, workload.interface),
        _ => place.to_string(),
    }
}

fn stage_text(number: usize, stage: &Stage) -> String {
    let mut text = format!("\n{number}. {}, on node {}: {}\n", stage.at, stage.node, stage.verdict);
    if let Some(packet) = &stage.packet {
        let _ = writeln!(text, "     the packet is now {packet}");
    }
    let _ = writeln!(text, "     by {}", stage.decided_by.text);
    for condition in &stage.decided_by.conditions {
        let _ = writeln!(text, "        {condition}");
    }
    for tier in &stage.tiers {
        let _ = writeln!(text, "     tier {}", tier.name);
        tier.policies.iter().for_each(|policy| text += &policy_text(policy));
        let _ = writeln!(text, "       end of tier: {}", tier.end);
    }
    if !stage.profiles.is_empty() {
        text += "     profiles\n";
        stage.profiles.iter().for_each(|profile| text += &policy_text(profile));
    }
    if !stage.others.is_empty() {
        text += "     without a say\n";
        for other in stage.others.iter().take(SHOWN) {
            let _ = writeln!(text, "       {}: {}", other.object, other.reason);
        }
        if let Some(more) = stage.others.len().checked_sub(SHOWN + 1) {
            let _ = writeln!(text, "       … and {} more; -o json lists them", more + 1);
        }
    }
    text
}

fn policy_text(policy: &PolicyView) -> String {
    let staged = if policy.staged { " (staged: what it would say)" } else { "" };
    let mut text = format!("       {}{staged}: {}\n", policy.object, policy.verdict);
    for problem in &policy.problems {
        let _ = writeln!(text, "         cannot be used: {problem}");
    }
    // A policy that was not reached has nothing to say about its rules.
    for rule in policy.rules.iter().filter(|_| policy.verdict != Ruling::NotReached) {
        let fate = match rule.matched {
            true => "matched".to_owned(),
            false => format!("no: {}", rule.failed.join("; ")),
        };
        let _ = writeln!(text, "         {} {}: {fate}", rule.field, rule.action);
    }
    text
}
