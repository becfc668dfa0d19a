//! The unit files: systemd accepts them, and they expose little.

use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use tempfile::TempDir;

type TestResult = Result<(), Box<dyn Error>>;

const MAX_EXPOSURE: f64 = 2.0;

fn sources() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../config/systemd")
}

/// A copy of the unit whose program is one that is there on any machine (this test), with or without the drop-in.
fn unit(with_drop_in: bool) -> Result<(TempDir, PathBuf), Box<dyn Error>> {
    let directory = tempfile::tempdir()?;
    let text = fs::read_to_string(sources().join("logweir.service"))?;
    let program = std::env::current_exe()?;
    let start = format!("ExecStart={}", program.display());
    let replaced = text.replace("ExecStart=/usr/bin/logweir", &start);
    assert_ne!(text, replaced, "the unit starts another program than /usr/bin/logweir");
    let path = directory.path().join("logweir.service");
    fs::write(&path, replaced)?;
    if with_drop_in {
        let drop_ins = directory.path().join("logweir.service.d");
        fs::create_dir(&drop_ins)?;
        fs::copy(sources().join("chunks.conf"), drop_ins.join("chunks.conf"))?;
    }
    Ok((directory, path))
}

fn systemd_analyze(arguments: &[&str], unit: &Path) -> Result<Output, Box<dyn Error>> {
    let output = Command::new("systemd-analyze").args(arguments).arg(unit).env("LC_ALL", "C").output();
    Ok(output.map_err(|error| format!("systemd-analyze cannot be started (Debian: package systemd): {error}"))?)
}

fn assert_accepted(unit: &Path) -> TestResult {
    let output = systemd_analyze(&["verify", "--man=no"], unit)?;
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.is_empty(), "systemd-analyze verify, {}:\n{said}", output.status);
    Ok(())
}

/// The number in `→ Overall exposure level for logweir.service: 1.3 OK`.
fn exposure(unit: &Path) -> Result<f64, Box<dyn Error>> {
    let output = systemd_analyze(&["security", "--offline=true", "--no-pager"], unit)?;
    let said = String::from_utf8(output.stdout)?;
    let level = said
        .lines()
        .find(|line| line.contains("Overall exposure level"))
        .and_then(|line| line.rsplit_once(": "))
        .and_then(|(_, level)| level.split_whitespace().next())
        .ok_or_else(|| format!("no exposure level in:\n{said}{}", String::from_utf8_lossy(&output.stderr)))?;
    Ok(level.parse()?)
}

#[test]
fn systemd_accepts_the_unit() -> TestResult {
    let (_directory, unit) = unit(false)?;
    assert_accepted(&unit)
}

#[test]
fn systemd_accepts_the_unit_with_its_drop_in() -> TestResult {
    let (_directory, unit) = unit(true)?;
    assert_accepted(&unit)
}

#[test]
fn the_unit_exposes_little() -> TestResult {
    let (_directory, unit) = unit(true)?;
    let exposure = exposure(&unit)?;
    assert!(exposure <= MAX_EXPOSURE, "exposure is {exposure}, more than {MAX_EXPOSURE}");
    Ok(())
}

/// A misspelt setting must not pass: `verify` only warns of it, and this is what makes the tests above mean something.
#[test]
fn a_misspelt_setting_is_noticed() -> TestResult {
    let (_directory, path) = unit(false)?;
    let text = fs::read_to_string(&path)?;
    fs::write(&path, text.replace("DynamicUser=", "DynamikUser="))?;
    let output = systemd_analyze(&["verify", "--man=no"], &path)?;
    assert!(!output.stderr.is_empty());
    Ok(())
}
