//! Packages of Debian's suites, unpacked into the cache. Nothing is installed, and root is not needed.
//!
//! apt does the work, with the mirrors, proxies and settings that it has on this machine, over a state of its own
//! that is thrown away: the machine's lists stay as they are. Names are asked of the suite's meta packages, because
//! old versions vanish from mirrors.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, bail};

use crate::root;

/// A suite of Debian, by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Suite(pub(super) &'static str);

/// Whom we trust, where the machine has the file; elsewhere apt's own keys decide.
const KEYS: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";
/// It depends on the newest kernel of its suite. The flavour for virtual machines is the smallest.
const META: &str = "linux-image-cloud-amd64";

/// A directory of the cache with packages in it: `fill` unpacks them where it is not there yet.
pub(super) fn unpacked(home: &Path, fresh: bool, fill: impl FnOnce(&Path) -> Result<()>) -> Result<PathBuf> {
    if home.is_dir() && !fresh {
        return Ok(home.to_owned());
    }
    let begun = home.with_extension("part");
    remove(&begun)?;
    fs::create_dir_all(&begun).with_context(|| format!("cannot make {}", begun.display()))?;
    fill(&begun)?;
    remove(home)?;
    // Whole or not at all: who is interrupted begins again.
    fs::rename(&begun, home).with_context(|| format!("cannot make {}", home.display()))?;
    Ok(home.to_owned())
}

/// Unpacks packages with all that they depend on, libc included: they run on any distribution.
pub(super) fn unpack_all(suite: &Suite, packages: &[&str], room: &Path) -> Result<()> {
    let apt = Apt::of(suite, room)?;
    eprintln!("kernels: getting {} of Debian's {}", packages.join(" and "), suite.0);
    apt.run("apt-get", &[&["install", "--download-only", "--yes"], packages].concat())?;
    apt.unpack()
}

/// Unpacks the newest kernel of a suite, and nothing that it depends on.
pub(super) fn unpack_kernel(suite: &Suite, room: &Path) -> Result<()> {
    let apt = Apt::of(suite, room)?;
    let depends = apt.run("apt-cache", &["depends", META])?;
    let Some(image) = depends.lines().find_map(|line| line.trim().strip_prefix("Depends: ")) else {
        bail!("{META} of Debian's {} depends on no kernel; apt-cache says: {depends}", suite.0);
    };
    eprintln!("kernels: getting {image} of Debian's {}", suite.0);
    apt.run("apt-get", &["download", image])?;
    apt.unpack()
}

/// apt, looking at one suite only, as on a machine with nothing installed.
struct Apt {
    /// Where its state and its downloads are until they are unpacked.
    state: PathBuf,
    /// Where packages are unpacked.
    room: PathBuf,
}

impl Apt {
    /// With the lists of a suite, from the first of this machine's mirrors that has it.
    fn of(suite: &Suite, room: &Path) -> Result<Self> {
        for program in ["apt-get", "dpkg-deb"] {
            if root::program(program).is_none() {
                bail!(
                    "there is no {program} here, and the kernels are Debian's: run this on Debian, or in a container of it"
                );
            }
        }
        let apt = Self { state: room.join("apt"), room: room.to_owned() };
        for directory in ["lists/partial", "debs/partial"] {
            let directory = apt.state.join(directory);
            fs::create_dir_all(&directory).with_context(|| format!("cannot make {}", directory.display()))?;
        }
        fs::write(apt.state.join("status"), "")?;
        let mirrors = mirrors()?;
        if mirrors.is_empty() {
            bail!("apt knows no mirror of Debian here, and the kernels are Debian's: add one to its sources");
        }
        let mut faults = Vec::new();
        for mirror in &mirrors {
            let keys = if Path::new(KEYS).is_file() { format!(" signed-by={KEYS}") } else { String::new() };
            let source = format!("deb [arch=amd64{keys}] {mirror} {} main\n", suite.0);
            fs::write(apt.state.join("sources.list"), source)?;
            match apt.run("apt-get", &["update", "--option", "APT::Update::Error-Mode=any"]) {
                Ok(_) => return Ok(apt),
                Err(error) => faults.push(format!("  {mirror}: {error:#}")),
            }
        }
        bail!(
            "no mirror gives Debian's {}; is there a network? If all else works, the suite has left the mirrors, and \
             is one to leave out here:\n{}",
            suite.0,
            faults.join("\n")
        )
    }

    /// Runs apt on our state, and says what it printed.
    fn run(&self, program: &str, arguments: &[&str]) -> Result<String> {
        let state = |name: &str| self.state.join(name).display().to_string();
        let mut command = Command::new(program);
        for option in [
            format!("Dir::Etc::SourceList={}", state("sources.list")),
            "Dir::Etc::SourceParts=/dev/null".to_owned(),
            format!("Dir::State={}", state("")),
            format!("Dir::State::Lists={}", state("lists")),
            format!("Dir::State::status={}", state("status")),
            format!("Dir::Cache={}", state("")),
            format!("Dir::Cache::Archives={}", state("debs")),
            "APT::Architecture=amd64".to_owned(),
            "APT::Architectures=amd64".to_owned(),
            "APT::Install-Recommends=false".to_owned(),
            "Acquire::Languages=none".to_owned(),
            "Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false".to_owned(),
            // Root's home is closed to the user that apt would become; and the machine's locks are not ours.
            "APT::Sandbox::User=root".to_owned(),
            "Debug::NoLocking=true".to_owned(),
        ] {
            command.arg("--option").arg(option);
        }
        command.args(arguments).current_dir(self.state.join("debs")).env("LC_ALL", "C").stdin(Stdio::null());
        let output = command.output().with_context(|| format!("cannot start {program}"))?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            let lines: Vec<_> = said.lines().filter(|line| line.starts_with("E: ")).collect();
            bail!("`{program} {}` failed: {}", arguments.join(" "), lines.join("; "));
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Unpacks what was downloaded, and throws the rest away.
    fn unpack(self) -> Result<()> {
        let mut packages = 0;
        for entry in fs::read_dir(self.state.join("debs"))? {
            let package = entry?.path();
            if package.extension().is_some_and(|extension| extension == "deb") {
                let status = Command::new("dpkg-deb").arg("--extract").arg(&package).arg(&self.room).status();
                if !status.context("cannot start dpkg-deb")?.success() {
                    bail!("{} could not be unpacked; the lines above say why", package.display());
                }
                packages += 1;
            }
        }
        if packages == 0 {
            bail!("apt said that all is well and downloaded nothing into {}", self.state.display());
        }
        remove(&self.state)
    }
}

/// Where this machine's apt gets Debian from.
fn mirrors() -> Result<Vec<String>> {
    let mut command = Command::new("apt-get");
    command.args(["indextargets", "--format", "$(ORIGIN) $(REPO_URI)"]);
    let output = command.output().context("cannot start apt-get")?;
    Ok(mirrors_in(&String::from_utf8_lossy(&output.stdout)))
}

/// Others' repositories are left in peace. Before its first update, apt does not know whose they are.
fn mirrors_in(targets: &str) -> Vec<String> {
    let unknown = |origin: &str| origin.starts_with("$(");
    let places = targets.lines().filter_map(|line| line.split_once(' '));
    let debian =
        places.filter(|(origin, place)| !place.starts_with("cdrom:") && (*origin == "Debian" || unknown(origin)));
    let places: BTreeSet<_> = debian.map(|(_, place)| place.trim_end_matches('/').to_owned()).collect();
    places.into_iter().collect()
}

fn remove(directory: &Path) -> Result<()> {
    if directory.exists() {
        fs::remove_dir_all(directory).with_context(|| format!("cannot remove {}", directory.display()))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::mirrors_in;

    #[test]
    fn only_debian_is_asked_for_debians_suites() {
        let targets = "Debian http://a.example/debian/\nDebian http://a.example/debian-security/\n\
                       . other http://b.example/\nNode https://c.example/\nDebian http://a.example/debian/\n\
                       Debian cdrom:[Debian]/\n$(ORIGIN) http://d.example/debian/\n";
        let wanted = ["http://a.example/debian", "http://a.example/debian-security", "http://d.example/debian"];
        assert_eq!(mirrors_in(targets), wanted);
    }
}
