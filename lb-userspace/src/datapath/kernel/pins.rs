//! The pinned maps: what each must be, whether those that are there fit, and how new ones are made.
//!
//! Pins stand in `v{LAYOUT}` below the pin directory. `SETTINGS` is written last: as long as its layout
//! is zero, a start was interrupted and the directory holds nothing that anyone relies on.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};
use aya::maps::{Array, Map, MapData, MapInfo, MapType};
use lb_common::{
    Address4, Backend, Endpoint, Flow, Half, LAYOUT, Limits, Nic, Origin, Service, ServiceName, Settings, Source, Tags,
    Times, Traffic, Vip, limits, slots,
};

const MMAPABLE: u32 = 1 << 10;
const NO_PREALLOC: u32 = 1;
/// The kernel sets this on every DEVMAP by itself (kernel/bpf/devmap.c, `dev_map_init_map`).
const RDONLY_PROG: u32 = 1 << 7;

/// What a map must be like for the program to run on it.
#[derive(Debug, PartialEq)]
pub(super) struct Spec {
    pub(super) name: &'static str,
    kind: MapType,
    key: usize,
    value: usize,
    pub(super) entries: usize,
    flags: u32,
}

/// The maps that outlive a controller: the ABI of the pins.
pub(super) fn specs(flow_sets: u32) -> Vec<Spec> {
    let half_sets = limits::half_sets(flow_sets) as usize;
    let flow_sets = flow_sets as usize;
    let map = |name, kind, key, value, entries| Spec { name, kind, key, value, entries, flags: 0 };
    let mappable = |name, value, entries| Spec { flags: MMAPABLE, ..map(name, MapType::Array, 4, value, entries) };
    let array = |name, value, entries| map(name, MapType::Array, 4, value, entries);
    let per_cpu = |name, value, entries| map(name, MapType::PerCpuArray, 4, value, entries);
    let hash = |name, key, value, entries| map(name, MapType::Hash, key, value, entries);
    vec![
        hash("SERVICES", size_of::<Endpoint>(), size_of::<Service>(), limits::LISTENS),
        hash("VIPS", size_of::<Address4>(), size_of::<Vip>(), limits::LISTENS),
        hash("ENDPOINTS", size_of::<Endpoint>(), 4, limits::BACKENDS),
        hash("LOCALS", size_of::<Address4>(), 4, limits::LOCALS),
        array("BACKENDS", size_of::<Backend>(), limits::BACKENDS),
        per_cpu("TRAFFIC", size_of::<Traffic>(), limits::BACKENDS),
        array("TABLES", 2 * slots::SMALL_ELEMENT, limits::SERVICES),
        array("LARGE_TABLES", 2 * slots::LARGE_ELEMENT, limits::LARGE_SERVICES),
        array("SERVICE_NAMES", size_of::<ServiceName>(), limits::SERVICES),
        array("FILTER", limits::FILTER, 1),
        array("NICS", size_of::<Nic>(), limits::NICS),
        map("DEVICES", MapType::DevMap, 4, 8, limits::NICS),
        per_cpu("REASONS", 8 * limits::REASONS, 1),
        mappable("FLOWS", size_of::<Flow>(), flow_sets * limits::WAYS),
        mappable("FLOW_TAGS", size_of::<Tags>(), flow_sets),
        array("FLOW_LOCKS", 4, limits::FLOW_LOCKS),
        mappable("HALVES", size_of::<Half>(), half_sets * limits::HALF_WAYS),
        mappable("HALF_TAGS", size_of::<Tags>(), half_sets),
        Spec { flags: NO_PREALLOC, ..map("ACCESS", MapType::LpmTrie, 4 + size_of::<Origin>(), 4, limits::PREFIXES) },
        array("LIMITS", size_of::<Limits>(), limits::SERVICES),
        array("RATES", 8, limits::SERVICES),
        map("SOURCES", MapType::LruHash, size_of::<Source>(), 4, limits::SOURCES),
        array("TIMES", size_of::<Times>(), limits::BACKENDS),
        array("PENDING", 8, limits::PENDING),
        array("SETTINGS", size_of::<Settings>(), 1),
    ]
}

/// The directory of our layout's pins.
pub(super) fn directory(root: &Path) -> PathBuf {
    root.join(format!("v{LAYOUT}"))
}

/// The directory of the pinned links of a layout.
pub(super) fn links(layout: &Path) -> PathBuf {
    layout.join("links")
}

/// The settings of maps that are there and fit, or `None` where maps are to be made. What an interrupted
/// start left is cleared away; what does not fit is refused and left as it is.
pub(super) fn survey(root: &Path) -> Result<Option<Settings>> {
    if let Some(other) = layouts(root)?.iter().find(|layout| **layout != directory(root)) {
        bail!(
            "{} holds the maps of another version of tidegate; run `tidegate detach` first (live connections will end)",
            other.display()
        );
    }
    let directory = directory(root);
    if !directory.exists() {
        return Ok(None);
    }
    let settings = settings(&directory)?;
    if settings.layout == 0 {
        if names(&links(&directory))?.is_empty() {
            log::warn!("{}: an earlier start was interrupted here; making the maps anew", directory.display());
            remove(&directory)?;
            return Ok(None);
        }
        bail!(
            "{}: programs are attached, but the maps are incomplete; run `tidegate detach` first",
            directory.display()
        );
    }
    if settings.layout != LAYOUT {
        bail!(
            "{}: the maps have layout {}, not {LAYOUT}; run `tidegate detach` first",
            directory.display(),
            settings.layout
        );
    }
    compare(&directory, settings.flow_sets).context("run `tidegate detach` first (live connections will end)")?;
    Ok(Some(settings))
}

/// Fails on the first map that is not what its [`Spec`] says.
pub(super) fn compare(directory: &Path, flow_sets: u32) -> Result<()> {
    for spec in specs(flow_sets) {
        let path = directory.join(spec.name);
        let info = MapInfo::from_pin(&path).with_context(|| format!("the map {} is missing", path.display()))?;
        let flags = info.map_flags() & if spec.kind == MapType::DevMap { !RDONLY_PROG } else { !0 };
        let found = Spec {
            name: spec.name,
            kind: info.map_type().with_context(|| format!("{}", path.display()))?,
            key: info.key_size() as usize,
            value: info.value_size() as usize,
            entries: info.max_entries() as usize,
            flags,
        };
        if found != spec {
            bail!("the map {} does not fit this version: it is {found:?}, wanted is {spec:?}", path.display());
        }
    }
    Ok(())
}

/// The pinned settings; all zero where there are none yet.
fn settings(directory: &Path) -> Result<Settings> {
    let none = Settings { layout: 0, flow_sets: 0, flow_seed: 0 };
    let path = directory.join("SETTINGS");
    if !path.exists() {
        return Ok(none);
    }
    let read = || -> Result<Settings> {
        let map = Array::<_, Settings>::try_from(Map::from_map_data(MapData::from_pin(&path)?)?)?;
        Ok(map.get(&0, 0)?)
    };
    read().with_context(|| format!("cannot read {}; run `tidegate detach` first", path.display()))
}

/// The directories of all layouts.
pub(super) fn layouts(root: &Path) -> Result<Vec<PathBuf>> {
    let number = |name: &String| name.strip_prefix('v').is_some_and(|number| number.parse::<u32>().is_ok());
    Ok(names(root)?.iter().filter(|name| number(name)).map(|name| root.join(name)).collect())
}

/// The names in a directory; none where it is not there.
pub(super) fn names(directory: &Path) -> Result<Vec<String>> {
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.with_context(|| format!("cannot read {}", directory.display()))?,
    };
    let name = |entry: io::Result<fs::DirEntry>| Ok(entry?.file_name().to_string_lossy().into_owned());
    entries.map(name).collect::<io::Result<_>>().with_context(|| format!("cannot read {}", directory.display()))
}

/// Takes a layout's pins away. The kernel frees the maps when no program uses them any more.
pub(super) fn remove(directory: &Path) -> Result<()> {
    match fs::remove_dir_all(directory) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove the pins in {}", directory.display()))
        }
        _ => Ok(()),
    }
}
