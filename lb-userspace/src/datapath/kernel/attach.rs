//! From the names of NICs to programs on them: what fits is kept, what is wanted is attached, what is
//! not wanted is taken off, and a failure leaves no NIC that was not attached before.

use std::{collections::BTreeSet, path::Path};

use anyhow::{Context as _, Result, bail};
use aya::programs::{Xdp, xdp::XdpLink};

use super::{
    driver,
    links::{self, Pinned},
    maps::Maps,
};
use crate::{
    datapath::Attached,
    model::XdpMode,
    net::{self, Link},
};

/// Attaches the program to exactly the wanted NICs.
pub(super) fn attach(
    program: &mut Xdp,
    maps: &mut Maps,
    layout: &Path,
    wanted: &[String],
    mode: XdpMode,
) -> Result<Vec<Attached>> {
    let links = net::links_now()?;
    let (pinned, mut stale): (Vec<_>, Vec<_>) =
        Pinned::all(layout)?.into_iter().partition(|pinned| pinned.lives(&links));
    let absent = absent(maps, wanted, &links, &stale)?;
    let present: Vec<String> =
        wanted.iter().filter(|name| absent.as_ref().is_none_or(|nic| nic.name != **name)).cloned().collect();
    let wanted = find(&present, &links)?;
    for link in &wanted {
        refuse_foreign(link, &pinned)?;
    }
    // Nothing refuses from here on but the kernel.
    // What is left of one that is waited for says so to the next start, too.
    stale.retain(|gone| absent.as_ref().is_none_or(|nic| nic.ifindex != gone.ifindex));
    for gone in &stale {
        log::info!("interface {} is gone; removing what is left of its link", gone.ifindex);
        gone.remove()?;
    }
    let is_awaited = |ifindex| absent.as_ref().is_some_and(|nic| nic.ifindex == ifindex);
    let was = |ifindex| is_awaited(ifindex) || pinned.iter().any(|pinned| pinned.ifindex == ifindex);
    maps.clear_nics(was)?;

    let mut fresh = Vec::new();
    let attached = wanted
        .iter()
        .map(|link| attach_one(program, maps, layout, link, &pinned, mode, &mut fresh))
        .collect::<Result<Vec<_>>>()
        .and_then(|attached| replace(program, &wanted, &pinned, &fresh).map(|()| attached));
    let attached = match attached {
        Ok(attached) => attached,
        Err(error) => {
            undo(maps, &fresh, was);
            return Err(error);
        }
    };
    let unwanted: Vec<Pinned> =
        pinned.into_iter().filter(|pinned| !wanted.iter().any(|link| link.ifindex == pinned.ifindex)).collect();
    for pinned in &unwanted {
        log::info!("interface {} is not named any more; taking the program off it", pinned.ifindex);
        pinned.remove()?;
    }
    links::wait_until_gone(&unwanted)?;
    maps.clear_nics(|ifindex| is_awaited(ifindex) || wanted.iter().any(|link| link.ifindex == ifindex))?;
    Ok(attached.into_iter().chain(absent).collect())
}

/// The one NIC of these that has vanished since the program was attached to it: a restart goes on with the others and
/// waits for it. A name that nobody knows of is refused, and so is a start without any NIC.
fn absent(maps: &Maps, wanted: &[String], links: &[Link], stale: &[Pinned]) -> Result<Option<Attached>> {
    let missing: BTreeSet<&String> =
        wanted.iter().filter(|name| links.iter().all(|link| link.name != **name)).collect();
    let ([gone], Some(name), 1) = (stale, missing.first(), missing.len()) else { return Ok(None) };
    if wanted.iter().all(|other| other == *name) {
        return Ok(None);
    }
    let Some(nic) = maps.nic_place(gone.ifindex)? else { return Ok(None) };
    log::error!("{name}: this NIC is gone; going on without it, and attaching to it as soon as it is back");
    Ok(Some(Attached { name: (*name).clone(), ifindex: gone.ifindex, nic, mac: [0; 6], mode: "gone" }))
}

/// Attaches to the NIC that has the name of one that vanished, and has what stood for that one stand for it.
pub(super) fn again(
    program: &mut Xdp,
    maps: &mut Maps,
    layout: &Path,
    old: &Attached,
    mode: XdpMode,
) -> Result<Attached> {
    let links = net::links_now()?;
    let found = find(std::slice::from_ref(&old.name), &links)?;
    let link = *found.first().with_context(|| format!("{}: no such interface", old.name))?;
    let (pinned, stale): (Vec<_>, Vec<_>) = Pinned::all(layout)?.into_iter().partition(|pinned| pinned.lives(&links));
    refuse_foreign(link, &pinned)?;
    stale.iter().try_for_each(Pinned::remove)?;
    let mut fresh = Vec::new();
    let attached = attach_one(program, maps, layout, link, &pinned, mode, &mut fresh);
    let attached = attached.and_then(|attached| maps.succeed_nic(old, link).map(|()| attached));
    if attached.is_err() {
        undo(maps, &fresh, |ifindex| ifindex != link.ifindex || pinned.iter().any(|kept| kept.ifindex == ifindex));
    }
    attached
}

/// The interfaces of these names, each once, all of a kind that packets arrive on.
fn find<'a>(names: &[String], links: &'a [Link]) -> Result<Vec<&'a Link>> {
    let mut seen = BTreeSet::new();
    let mut found = Vec::new();
    for name in names {
        let Some(link) = links.iter().find(|link| link.name == *name) else {
            let there: Vec<&str> = links.iter().map(|link| link.name.as_str()).collect();
            bail!("{name}: no such interface; there are {}", there.join(", "));
        };
        if let Some(kind @ ("bridge" | "bond" | "team")) = link.kind.as_deref() {
            bail!("{name} is a {kind}, whose packets XDP does not see whole; attach to the ports of it");
        }
        if seen.insert(link.ifindex) {
            found.push(link);
        }
    }
    if found.is_empty() {
        bail!("no interface is named; name one with --iface or in node.interfaces");
    }
    Ok(found)
}

/// Somebody else's program is named, and never replaced.
fn refuse_foreign(link: &Link, pinned: &[Pinned]) -> Result<()> {
    let Some(xdp) = link.xdp else { return Ok(()) };
    if pinned.iter().any(|pinned| pinned.ifindex == link.ifindex) {
        return Ok(());
    }
    let name = aya::programs::loaded_programs()
        .filter_map(Result::ok)
        .find(|program| program.id() == xdp.program)
        .and_then(|program| program.name_as_str().map(ToOwned::to_owned))
        .unwrap_or_else(|| "without a name".to_owned());
    let remedy = if name == driver::PROGRAM {
        "it is a tidegate's with other pins: `tidegate detach --pin-dir DIR` takes it off".to_owned()
    } else {
        format!("stop what attached it, or take it off with `ip link set dev {} xdp off`", link.name)
    };
    bail!("{}: another XDP program is attached ({name}, id {}, {}); {remedy}", link.name, xdp.program, xdp.mode)
}

/// One NIC: its place in the maps, and a link where it has none that will do.
fn attach_one(
    program: &mut Xdp,
    maps: &mut Maps,
    layout: &Path,
    link: &Link,
    pinned: &[Pinned],
    mode: XdpMode,
    fresh: &mut Vec<Pinned>,
) -> Result<Attached> {
    let nic = maps.place_nic(link)?;
    let kept = pinned.iter().find(|pinned| pinned.ifindex == link.ifindex);
    let mode = match (kept.zip(link.xdp), mode) {
        (None, _) => attach_new(program, layout, link, mode, fresh)?,
        (Some((kept, xdp)), XdpMode::Native) if xdp.mode == "generic" => {
            reattach(program, layout, link, kept, (XdpMode::Native, XdpMode::Generic), fresh)?
        }
        (Some((kept, xdp)), XdpMode::Generic) if xdp.mode == "native" => {
            reattach(program, layout, link, kept, (XdpMode::Generic, XdpMode::Native), fresh)?
        }
        (Some((_, xdp)), XdpMode::Auto) if xdp.mode == "generic" => {
            driver::warn_generic(
                &link.name,
                "it was attached so before; `tidegate detach` and a new start try the driver again",
            );
            xdp.mode
        }
        (Some((_, xdp)), _) => xdp.mode,
    };
    Ok(Attached { name: link.name.clone(), ifindex: link.ifindex, nic, mac: link.mac, mode })
}

fn attach_new(
    program: &mut Xdp,
    layout: &Path,
    link: &Link,
    mode: XdpMode,
    fresh: &mut Vec<Pinned>,
) -> Result<&'static str> {
    let (mode, attached) = driver::attach(program, link, mode)?;
    fresh.push(links::pin(layout, link.ifindex, attached)?);
    Ok(mode)
}

/// From one mode to the other: the kernel does not allow both at a time, so packets pass by for a
/// moment. Where the new mode is refused, the old one is back.
fn reattach(
    program: &mut Xdp,
    layout: &Path,
    link: &Link,
    kept: &Pinned,
    (to, from): (XdpMode, XdpMode),
    fresh: &mut Vec<Pinned>,
) -> Result<&'static str> {
    log::warn!("{}: changing the XDP mode; for a moment packets pass by the balancer", link.name);
    kept.remove()?;
    links::wait_until_gone(std::slice::from_ref(kept))?;
    attach_new(program, layout, link, to, fresh).or_else(|error| {
        let (_, old) = driver::attach(program, link, from).context("cannot go back to the mode before")?;
        // Not among the fresh ones, which are taken away after a failure.
        links::pin(layout, link.ifindex, old)?;
        Err(error)
    })
}

/// Puts the program into the links that were there: each at one instant, without a packet lost.
fn replace(program: &mut Xdp, wanted: &[&Link], pinned: &[Pinned], fresh: &[Pinned]) -> Result<()> {
    for link in wanted {
        let is_of = |pinned: &&Pinned| pinned.ifindex == link.ifindex;
        if fresh.iter().find(is_of).is_some() {
            continue;
        }
        if let Some(pinned) = pinned.iter().find(is_of) {
            let old = XdpLink::try_from(pinned.link()?)
                .with_context(|| format!("{}: the pinned link is not of XDP", link.name))?;
            program.attach_to_link(old).with_context(|| format!("{}: cannot replace the program", link.name))?;
        }
    }
    Ok(())
}

/// Takes away what this start attached.
fn undo(maps: &mut Maps, fresh: &[Pinned], was: impl Fn(u32) -> bool) {
    let undone = fresh.iter().try_for_each(Pinned::remove).and_then(|()| links::wait_until_gone(fresh));
    if let Err(error) = undone.and_then(|()| maps.clear_nics(was)) {
        log::warn!("cannot take everything away again: {error:#}");
    }
}
