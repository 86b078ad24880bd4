//! What of a file a running controller cannot put in force, and what does.

use std::path::PathBuf;

use super::controller::Controller;
use crate::model::{Http, Model};

impl<D> Controller<D> {
    /// What of a model this process cannot change while it runs.
    pub(super) fn needs_restart(&self, model: &Model) -> Vec<String> {
        let (node, file, settings) = (&self.settings.node, &model.node, &self.settings);
        let mut needs = Vec::new();
        let mut note = |key: &str, now: String, then: String| {
            needs.push(format!("{key}: to change {now} to {then}, restart this controller (no connection is lost)"));
        };
        let mut interfaces = (node.interfaces.clone(), file.interfaces.clone());
        interfaces.0.sort();
        interfaces.1.sort();
        if !settings.interfaces_by_flag && interfaces.0 != interfaces.1 {
            note("node.interfaces", node.interfaces.join(", "), file.interfaces.join(", "));
        }
        if !settings.xdp_by_flag && node.xdp != file.xdp {
            note("node.xdp", format!("{:?}", node.xdp).to_lowercase(), format!("{:?}", file.xdp).to_lowercase());
        }
        if !settings.socket_by_flag && settings.socket != model.socket {
            let shown = |path: &Option<PathBuf>| {
                path.as_ref().map_or("the default".to_owned(), |path| path.display().to_string())
            };
            note("admin.socket", shown(&settings.socket), shown(&model.socket));
        }
        if !settings.http_by_flag && settings.http != model.http {
            let shown = |http: Option<Http>| http.map_or("the default".to_owned(), |http| http.to_string());
            note("admin.http", shown(settings.http), shown(model.http));
        }
        if node.max_flows != file.max_flows {
            needs.push(format!(
                "node.max_flows: to change {} to {}, `tidegate detach` and start again (live connections end)",
                node.max_flows, file.max_flows
            ));
        }
        needs
    }
}
