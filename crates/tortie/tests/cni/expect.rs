//! Vectors' `then`: what must hold after a call.

use std::net::IpAddr;

use api::cni::CniResult;
use serde_json::Value;
use testkit::vectors::Case;

use crate::arrange::Scene;
use crate::outcome::Outcome;
use crate::world::World;

type Verdict = Result<(), String>;

fn require(holds: bool, otherwise: impl FnOnce() -> String) -> Verdict {
    if holds { Ok(()) } else { Err(otherwise()) }
}

/// Checks everything that a case says. Fields that are unknown are for people.
pub(crate) fn check(world: &World, case: &Case, scene: &Scene, outcome: &Outcome) -> Verdict {
    let then = case.then.as_object().ok_or("then is no object")?;
    for (field, wanted) in then {
        let check = Check { world, case, scene, outcome, wanted };
        check.field(field).map_err(|error| format!("{field}: {error}; {outcome:?}"))?;
    }
    Ok(())
}

struct Check<'a> {
    world: &'a World,
    case: &'a Case,
    scene: &'a Scene,
    outcome: &'a Outcome,
    wanted: &'a Value,
}

impl Check<'_> {
    fn field(&self, field: &str) -> Verdict {
        match field {
            "exit" => self.exit(),
            "stdout" => self.stdout(),
            "stdout_json" => self.stdout_json(),
            "stdout_is_single_json_object" => {
                require(self.outcome.json().is_object(), || "no single object".to_owned())
            }
            "logs_on" => require(!self.outcome.stderr.is_empty(), || "no log".to_owned()),
            "error_code" => self.code(|code, wanted| Some(code) == wanted.as_u64()),
            "not_error_code" => self.not_code(),
            "error_code_min" => self.code(|code, wanted| Some(code) >= wanted.as_u64()),
            "error_code_in" => self.code_in(),
            "msg_contains" | "error_msg_contains" => self.message(),
            "supported_contains" => self.supported(),
            "ips"
            | "ips_within"
            | "ips_families"
            | "ips_count"
            | "ips_prefix_lengths"
            | "ips_version_field"
            | "cniVersion_echoes_config" => self.addresses(field, &self.outcome.result()?),
            "endpoint" => self.endpoint(),
            "mtu" => self.mtu(),
            "container_mac" => self.mac(),
            "container_sysctl" => self.sysctl(),
            "same_result_as_first" => self.same_result(),
            "addresses_allocated_total" | "allocated_after" => self.allocated(),
            "ipam_called" => require(self.world.assignments().is_empty() != self.is_true(), || {
                format!("assigned are {:?}", self.world.assignments())
            }),
            "removed" => require(self.world.endpoints().len() == self.scene.before.len(), || {
                format!("left are {:?}", self.world.endpoints())
            }),
            "then" => self.garbage(),
            "note" => self.note(),
            "state_after" => self.state_after(),
            _ => Ok(()),
        }
    }

    fn is_true(&self) -> bool {
        self.wanted.as_bool() == Some(true)
    }

    fn exit(&self) -> Verdict {
        let good = match self.wanted {
            Value::Number(code) => code.as_i64() == Some(self.outcome.exit.into()),
            Value::String(word) if word == "non-zero" => self.outcome.exit != 0 || self.is_mended(),
            _ => true,
        };
        require(good, || format!("not {}", self.wanted))
    }

    /// A route that is taken away from the node comes back at once; a CHECK that comes later than that finds nothing wrong.
    /// (That CHECK finds a route that stays away is tested where nothing mends it, in the node's own tests.)
    fn is_mended(&self) -> bool {
        self.scene.fault.contains("host route")
            && self.world.links_and_routes().iter().any(|line| line.contains("scope link"))
    }

    fn stdout(&self) -> Verdict {
        let good = match self.wanted.as_str() {
            Some("<version>") => {
                self.outcome.stdout.starts_with(|first: char| first.is_ascii_digit() || first == 'v')
            }
            text => text == Some(&self.outcome.stdout),
        };
        require(good, || format!("not {}", self.wanted))
    }

    fn stdout_json(&self) -> Verdict {
        let netns = self.scene.call.variable("CNI_NETNS");
        matches(self.wanted, &self.outcome.json(), netns)
    }

    fn code(&self, holds: impl Fn(u64, &Value) -> bool) -> Verdict {
        let code = self.outcome.code().unwrap_or(0);
        require(holds(code, self.wanted), || format!("code {code}, not {}", self.wanted))
    }

    fn not_code(&self) -> Verdict {
        require(self.outcome.code().is_none() || self.outcome.code() != self.wanted.as_u64(), || {
            format!("code {}", self.wanted)
        })
    }

    fn code_in(&self) -> Verdict {
        if self.case.then["or_exit"].as_i64() == Some(self.outcome.exit.into()) {
            return Ok(());
        }
        self.code(|code, wanted| wanted.as_array().is_some_and(|codes| codes.contains(&code.into())))
    }

    fn message(&self) -> Verdict {
        let words = self.wanted.as_array().into_iter().flatten().filter_map(Value::as_str);
        let message = self.outcome.message();
        let missing: Vec<_> = words.filter(|word| !message.contains(word)).collect();
        require(missing.is_empty(), || format!("the message lacks {missing:?}"))
    }

    fn supported(&self) -> Verdict {
        let supported = &self.outcome.json()["supportedVersions"];
        let has = |version: &Value| supported.as_array().is_some_and(|list| list.contains(version));
        require(self.wanted.as_array().is_some_and(|list| list.iter().all(has)), || supported.to_string())
    }

    fn addresses(&self, field: &str, result: &CniResult) -> Verdict {
        let nets: Vec<_> = result.ips.iter().map(|ip| ip.address).collect();
        let texts: Vec<Value> = nets.iter().map(|net| net.to_string().into()).collect();
        let list = |wanted: &Value| wanted.as_array().cloned().unwrap_or_default();
        let good = match field {
            "ips" => list(self.wanted) == texts,
            "ips_within" => nets.iter().all(|net| {
                list(self.wanted)
                    .iter()
                    .filter_map(Value::as_str)
                    .any(|outer| outer.parse::<ipnet::IpNet>().is_ok_and(|outer| outer.contains(net)))
            }),
            "ips_families" => {
                let families: Vec<Value> =
                    nets.iter().map(|net| if net.addr().is_ipv4() { 4.into() } else { 6.into() }).collect();
                list(self.wanted) == families
            }
            "ips_count" => self.wanted.as_u64() == Some(nets.len() as u64),
            "ips_prefix_lengths" => {
                list(self.wanted) == nets.iter().map(|net| net.prefix_len().into()).collect::<Vec<Value>>()
            }
            "ips_version_field" => {
                let json = self.outcome.json();
                let ips = json["ips"].as_array().cloned().unwrap_or_default();
                !ips.is_empty() && ips.iter().all(|ip| ip["version"].is_string() == self.is_true())
            }
            _ => {
                self.outcome.json()["cniVersion"]
                    == self.scene.call.config().unwrap_or_default()["cniVersion"]
            }
        };
        require(good, || format!("not {}", self.wanted))
    }

    fn endpoint(&self) -> Verdict {
        let container = self.scene.call.variable("CNI_CONTAINERID");
        let endpoint = self.world.endpoint_of(container).ok_or("there is none")?;
        let object = serde_json::to_value(&endpoint).map_err(|error| error.to_string())?;
        for (field, wanted) in self.wanted.as_object().into_iter().flatten() {
            let found = match field.as_str() {
                "generate_name" | "generateName" => &object["metadata"]["generateName"],
                "labels" | "annotations" | "name" | "namespace" => &object["metadata"][field],
                field => &object["spec"][field],
            };
            matches(wanted, found, "").map_err(|error| format!("{field}: {error}"))?;
        }
        Ok(())
    }

    fn inside(&self, line: &str) -> Result<String, String> {
        self.scene.pods.first().map(|pod| pod.command(line)).ok_or_else(|| "there is no namespace".to_owned())
    }

    fn mtu(&self) -> Verdict {
        let link = self.inside("ip -oneline link show eth0")?;
        require(link.contains(&format!("mtu {} ", self.wanted)), || link)
    }

    fn mac(&self) -> Verdict {
        let link = self.inside("ip -oneline link show eth0")?;
        require(link.contains(self.wanted.as_str().unwrap_or_default()), || link)
    }

    fn sysctl(&self) -> Verdict {
        let pod = self.scene.pods.first().ok_or("there is no namespace")?;
        for (name, value) in self.wanted.as_object().into_iter().flatten() {
            let found = pod.sysctl(name);
            require(value.as_str() == Some(&found), || format!("{name} is {found}"))?;
        }
        Ok(())
    }

    fn same_result(&self) -> Verdict {
        let first = &self.scene.before.first().ok_or("there was no first")?.1;
        require(first.json() == self.outcome.json(), || format!("the first was {}", first.stdout))
    }

    fn allocated(&self) -> Verdict {
        let assigned = self.world.assignments();
        require(self.wanted.as_u64() == Some(assigned.len() as u64), || format!("assigned are {assigned:?}"))
    }

    /// GC: what is listed stays, what is not goes.
    fn garbage(&self) -> Verdict {
        let config = self.scene.call.config().unwrap_or_default();
        let Some(listed) = config["cni.dev/valid-attachments"].as_array() else { return Ok(()) };
        for (call, outcome) in &self.scene.before {
            let container = call.variable("CNI_CONTAINERID");
            let stays = listed.iter().any(|entry| entry["containerID"] == container);
            let endpoint = self.world.endpoint_of(container).is_some();
            let held = self.world.held_by(&format!("k8s-pod-network.{container}"));
            let addresses = outcome.result()?.ips.iter().map(|ip| ip.address.addr()).collect::<Vec<_>>();
            require(endpoint == stays && (held == addresses) == stays && held.is_empty() != stays, || {
                format!("{container}: endpoint {endpoint}, addresses {held:?}")
            })?;
        }
        Ok(())
    }

    fn note(&self) -> Verdict {
        let note = self.wanted.as_str().unwrap_or_default();
        let container = self.scene.call.variable("CNI_CONTAINERID");
        if note.contains("the first allocation is not cleaned up") {
            let (_, first) = self.scene.before.first().ok_or("there was no first")?;
            let addresses = first.expect_addresses();
            require(self.world.held_by(&format!("k8s-pod-network.{container}")) == addresses, || {
                "the first has lost its address".to_owned()
            })?;
            return require(self.world.endpoint_of(container).is_some(), || {
                "its endpoint is gone".to_owned()
            });
        }
        if note.contains("returns the first result") {
            let (_, first) = self.scene.before.first().ok_or("there was no first")?;
            return require(first.json() == self.outcome.json(), || {
                format!("the first was {}", first.stdout)
            });
        }
        if note.contains("now carries the new container ID") {
            return require(self.world.endpoint_of(container).is_some(), || "it does not".to_owned());
        }
        if note.contains("nothing is left behind") {
            return require(self.world.leftovers().is_empty(), || self.world.leftovers().join("\n"));
        }
        if note.contains("cleans up what it can locally") {
            self.world.wait_for("the link to be gone", || self.no_link());
        }
        Ok(())
    }

    fn no_link(&self) -> Verdict {
        let left = self.world.links_and_routes();
        require(left.is_empty(), || left.join("\n"))
    }

    fn state_after(&self) -> Verdict {
        let text = self.wanted.as_str().unwrap_or_default();
        if text.starts_with("no endpoint") {
            self.world.assert_clean();
        } else if text.contains("local link") {
            self.world.wait_for("the link to be gone", || self.no_link());
        } else if text.contains("new container stays") {
            let (call, outcome) = self.scene.before.last().ok_or("there was no other")?;
            let newer = call.variable("CNI_CONTAINERID");
            require(self.world.endpoint_of(newer).is_some(), || "its endpoint is gone".to_owned())?;
            let assigned: Vec<IpAddr> =
                self.world.assignments().iter().map(|assignment| assignment.address).collect();
            require(assigned == outcome.expect_addresses(), || format!("assigned are {assigned:?}"))?;
            require(!self.world.links_and_routes().is_empty(), || "its link is gone".to_owned())?;
        }
        Ok(())
    }
}

/// Compares with a shape: `<…>` stands for any value, `<optional …>` also for none.
fn matches(wanted: &Value, found: &Value, netns: &str) -> Verdict {
    match (wanted, found) {
        (Value::String(text), _) if text == "{netns}" => {
            require(found == netns, || format!("{found} is not {netns}"))
        }
        (Value::String(text), _) if text.starts_with('<') => {
            require(!found.is_null() || text.contains("optional"), || format!("{text} is missing"))
        }
        (Value::Object(fields), _) => fields.iter().try_for_each(|(field, wanted)| {
            matches(wanted, &found[field], netns).map_err(|error| format!("{field}: {error}"))
        }),
        (Value::Array(wanted), Value::Array(found)) if wanted.len() == found.len() => {
            wanted.iter().zip(found).try_for_each(|(wanted, found)| matches(wanted, found, netns))
        }
        _ => require(wanted == found, || format!("{found} is not {wanted}")),
    }
}
