//! Several learners of one attempt: they wait for each other before the program starts, and find each other by
//! address and by name.

use std::{
    fs,
    net::{IpAddr, TcpListener, ToSocketAddrs, UdpSocket},
    path::{Path, PathBuf},
};

use trainyard_api::{
    RunId,
    runner::{RunnerEvent, Team, WorkOrder},
};

use crate::{Error, attempt::Context, reporter::Reporter, stop::Stop};

/// Says that this learner is ready, and waits until all are; `None` where there is one.
pub(crate) async fn meet(
    context: &Context,
    reporter: &Reporter,
    stop: &mut Stop,
) -> Result<Option<Team>, Error> {
    let WorkOrder { learners, .. } = context.order;
    if learners < 2 {
        return Ok(None);
    }
    let failed = |e| Error::file(&context.layout.root, e);
    let address = own_address(&context.link.host()).map_err(failed)?;
    let port = TcpListener::bind((address, 0)).and_then(|l| l.local_addr()).map_err(failed)?.port();
    reporter.event(RunnerEvent::Ready { address: address.to_string(), port });
    loop {
        tokio::select! {
            team = context.link.team() => if let Some(team) = team? {
                return Ok(Some(team));
            },
            reason = stop.reason(reporter) => return Err(reason),
        }
    }
}

/// The address of this machine that others reach: the one from which it reaches the server, and where that is
/// this very machine, the one that its name has.
fn own_address((host, port): &(String, u16)) -> std::io::Result<IpAddr> {
    let of_route = |to: std::net::SocketAddr| {
        let any: IpAddr =
            if to.is_ipv4() { [0, 0, 0, 0].into() } else { std::net::Ipv6Addr::UNSPECIFIED.into() };
        let socket = UdpSocket::bind((any, 0))?;
        socket.connect(to)?;
        Ok::<_, std::io::Error>(socket.local_addr()?.ip())
    };
    let to = (host.as_str(), *port).to_socket_addrs()?.next();
    let address = of_route(to.ok_or(std::io::ErrorKind::AddrNotAvailable)?)?;
    if !address.is_loopback() {
        return Ok(address);
    }
    Ok(named_address().1.unwrap_or(address))
}

/// This machine's name, and the address that it has by that name, if others could reach it there.
fn named_address() -> (String, Option<IpAddr>) {
    let name = nix::unistd::gethostname().ok().and_then(|n| n.into_string().ok()).unwrap_or_default();
    let named = (name.as_str(), 0).to_socket_addrs().into_iter().flatten();
    let address = named.map(|a| a.ip()).find(|a| !a.is_loopback());
    (name, address)
}

/// How the learners of a run are called: `PREFIX-0` is the first one's name, as launchers of the original
/// count, and `PREFIX-0.PREFIX` as well.
pub(crate) fn prefix(run: &RunId) -> String {
    format!("learner-{}", run.as_str().trim_start_matches("training-"))
}

/// A file of host names with those of the learners, beside the ones that this machine has. Frameworks look
/// their own machine's name up: one that leads nowhere leads to this learner, `number`.
pub(crate) fn write_hosts(folder: &Path, run: &RunId, number: u32, team: &Team) -> std::io::Result<PathBuf> {
    let mut text = match (named_address(), team.addresses.get(number as usize - 1)) {
        ((name, None), Some(address)) if !name.is_empty() => format!("{address} {name}\n"),
        _ => String::new(),
    };
    text.push_str(&fs::read_to_string("/etc/hosts").unwrap_or_default());
    if !text.is_empty() && !text.ends_with('\n') {
        text.push('\n');
    }
    let prefix = prefix(run);
    for (n, address) in team.addresses.iter().enumerate() {
        text.push_str(&format!("{address} {prefix}-{n}.{prefix} {prefix}-{n}\n"));
    }
    let path = folder.join("hosts");
    fs::write(&path, text)?;
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn learners_are_found_by_the_names_of_the_original() {
        let dir = tempfile::tempdir().unwrap();
        let team = Team { addresses: vec!["10.0.0.1".to_owned(), "10.0.0.2".to_owned()], port: 7 };
        let path = write_hosts(dir.path(), &"training-abcdefghi".parse().unwrap(), 2, &team).unwrap();
        let text = fs::read_to_string(path).unwrap();
        let lines: Vec<&str> = text.lines().rev().take(2).collect();
        assert_eq!(
            lines,
            [
                "10.0.0.2 learner-abcdefghi-1.learner-abcdefghi learner-abcdefghi-1",
                "10.0.0.1 learner-abcdefghi-0.learner-abcdefghi learner-abcdefghi-0",
            ]
        );
    }

    #[test]
    fn the_own_address_is_one_of_this_machine() {
        let address = own_address(&("127.0.0.1".to_owned(), 1)).unwrap();
        TcpListener::bind((address, 0)).unwrap();
    }
}
