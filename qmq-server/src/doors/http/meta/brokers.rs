//! Actions on brokers: `AddBroker`, `ReplaceBroker`, `ListBrokers`, `ListBrokerGroups`, `AddDb`.

use axum::response::Response;
use qmq_meta::{Broker, BrokerRole, DataSource, DatabaseError, MetaError};

use super::MetaHttp;
use super::form::Form;
use super::shapes::{BrokerShape, GroupShape, failed, json, ok};

pub(super) async fn add(door: &MetaHttp, form: &Form) -> Response {
    let broker = match broker(form, "add broker failed, caused by: ") {
        Ok(broker) => broker,
        Err(why) => return failed(why),
    };
    match door.meta.add_broker(&broker).await {
        Ok(broker) => ok(BrokerShape::from(broker)),
        Err(MetaError::Database(error @ DatabaseError::Exists { .. })) => failed(format!(
            "broker group's role already exist or broker already added: {error}"
        )),
        Err(error @ MetaError::Refused { .. }) => failed(error.to_string()),
        Err(error) => failed(format!("add broker failed, caused by: {error}")),
    }
}

pub(super) async fn replace(door: &MetaHttp, form: &Form) -> Response {
    if form.get("brokerGroup").is_empty() {
        return failed("should provide broker group name");
    }
    let broker = match broker(form, "replace broker action failed, caused by: ") {
        Ok(broker) => broker,
        Err(why) => return failed(why),
    };
    let known = door.meta.brokers(Some(&broker.group));
    if !known.iter().any(|known| known.role == broker.role) {
        return failed("no exist broker with this broker group name and role");
    }
    match door.meta.replace_broker(&broker).await {
        Ok(old) => ok(BrokerShape::from(old)),
        Err(error @ MetaError::Refused { .. }) => failed(error.to_string()),
        Err(error) => failed(format!("replace broker action failed, caused by: {error}")),
    }
}

/// The broker of the parameters. What QMQ refuses is refused in its words; what it chokes on is named.
fn broker(form: &Form, choked: &str) -> Result<Broker, String> {
    let code: i32 = number(form, "role", choked, "0, 1, 4, 5, 6 or 7")?;
    let role = BrokerRole::of_number(code)
        .filter(|role| *role != BrokerRole::Standby)
        .ok_or_else(|| format!("invalid broker role code {code}"))?;
    let backup = matches!(role, BrokerRole::Backup | BrokerRole::DelayBackup);
    let serve: i64 = number(form, "servePort", choked, "from 1 to 65535")?;
    let sync: Option<i64> = match backup {
        true => None,
        false => Some(number(form, "syncPort", choked, "from 1 to 65535")?),
    };
    for (name, what) in [
        ("brokerGroup", "group name"),
        ("hostname", "hostname"),
        ("ip", "ip"),
    ] {
        if form.get(name).is_empty() {
            return Err(format!("please provide broker {what}"));
        }
    }
    let port = |port: i64| u16::try_from(port).ok().filter(|port| *port > 0);
    let wrong = || "serve port and sync port should valid and should be different port".to_owned();
    let serve_port = port(serve).ok_or_else(wrong)?;
    let sync_port = match sync {
        Some(sync) => Some(
            port(sync)
                .filter(|sync| *sync != serve_port)
                .ok_or_else(wrong)?,
        ),
        None => None,
    };
    Ok(Broker {
        group: form.get("brokerGroup").to_owned(),
        role,
        hostname: form.get("hostname").to_owned(),
        ip: form.get("ip").to_owned(),
        serve_port,
        sync_port,
    })
}

fn number<T: std::str::FromStr>(
    form: &Form,
    name: &str,
    choked: &str,
    allowed: &str,
) -> Result<T, String> {
    let text = form.get(name);
    text.parse().map_err(|_| match text {
        "" => format!("{choked}{name} is missing; give a number, {allowed}"),
        text => {
            let text: String = text.chars().take(100).collect();
            format!("{choked}{name} {text:?} is no number; give one {allowed}")
        }
    })
}

pub(super) fn list(door: &MetaHttp, form: &Form) -> Response {
    let group = Some(form.get("brokerGroup")).filter(|group| !group.is_empty());
    let brokers = door.meta.brokers(group);
    ok(brokers
        .into_iter()
        .map(BrokerShape::from)
        .collect::<Vec<_>>())
}

pub(super) fn groups(door: &MetaHttp) -> Response {
    let groups = door.meta.groups();
    json(&groups.into_iter().map(GroupShape::from).collect::<Vec<_>>())
}

pub(super) async fn add_database(door: &MetaHttp, form: &Form) -> Response {
    let names = ["type", "host", "port", "username", "password"];
    if let Some(missing) = names.into_iter().find(|name| form.get(name).is_empty()) {
        return failed(format!("register failed {missing} is missing"));
    }
    let port: u16 = match number(form, "port", "register failed ", "from 1 to 65535") {
        Ok(port) => port,
        Err(why) => return failed(why),
    };
    let room = match form.get("room").trim() {
        "" => "default",
        room => room,
    };
    let source = DataSource {
        url: format!("{}://{}:{port}", form.get("type"), form.get("host")),
        user: form.get("username").to_owned(),
        password: form.get("password").to_owned(),
        room: room.to_owned(),
    };
    match door.meta.add_data_source(&source).await {
        Ok(()) => ok("register success"),
        Err(error) => failed(format!("register failed {error}")),
    }
}
