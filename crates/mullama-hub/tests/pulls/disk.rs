//! Disks that are full, that cannot be written to, and files that are in the way.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use mullama_hub_server::{Fault, LARGE_LEN};

use crate::program::{self, Report};
use crate::setup::{ALWAYS, Setup, files};

/// Pulls in a process that is started by a shell script, of which `$0` and `$@` are the command.
fn pull_by(setup: &Setup, name: &str, script: &str) -> Report {
    let child = program::command(setup, name, &["sh", "-c", script]).spawn().expect("sh starts");
    program::finish(program::Puller(child))
}

/// Starts of scripts that pull with a store on a disk of 8 MiB, of which one works on every Linux: with the rights of
/// root, with a namespace of its own, or with both.
fn on_a_small_disk(setup: &Setup, name: &str) -> Option<Report> {
    let store = setup.store();
    let mount =
        format!("mount -t tmpfs -o size=8m small '{}' && touch '{0}/mounted' && exec \"$0\" \"$@\"", store.display());
    fs::create_dir_all(&store).expect("a folder can be made");
    for namespace in ["unshare -m", "unshare -rm"] {
        let script = format!("exec {namespace} sh -c '{}' \"$0\" \"$@\"", mount.replace('\'', "'\\''"));
        let report = pull_by(setup, name, &script);
        if report.status.success() && !report.end.is_null() {
            return Some(report);
        }
    }
    None
}

/// Pulls where no file can be longer than 8 MiB: what works in every container.
fn with_short_files(setup: &Setup, name: &str) -> Report {
    // In blocks of 512 bytes. The signal that would end the process is ignored, so that writes fail.
    pull_by(setup, name, "trap '' XFSZ; ulimit -f 16384; exec \"$0\" \"$@\"")
}

fn is_a_disk_error(setup: &Setup, report: &Report) {
    assert_eq!(report.end["code"], "DOWNLOAD_ERROR", "{}: {}", report.end, report.stderr);
    assert_eq!(report.end["reason"], "disk", "{}", report.end);
    let message = report.end["message"].as_str().expect("an error has a message");
    assert!(message.contains(&*setup.store().to_string_lossy()), "{message}");
}

#[test]
fn a_file_that_does_not_fit_on_its_disk_is_refused_or_leaves_no_broken_model() {
    let stream = |setup: &Setup| format!("{}/files/large.gguf", setup.server.url());
    for known_length in [true, false] {
        let setup = Setup::new();
        // Without a length, only writing shows that there is no room.
        for fault in [Fault::NoRanges, Fault::UntilClose] {
            setup.fault("/files/*", fault, if known_length { 0 } else { ALWAYS });
        }
        let name = if known_length { "large".to_owned() } else { stream(&setup) };
        let Some(report) = on_a_small_disk(&setup, &name) else {
            is_a_disk_error(&setup, &with_short_files(&setup, &name));
            continue;
        };
        is_a_disk_error(&setup, &report);
        let message = report.end["message"].as_str().unwrap();
        assert!(message.contains("free"), "{message}");
        if known_length {
            assert!(message.contains(&LARGE_LEN.to_string()), "{message}");
            // What the buffers of a connection hold is sent before anybody knows.
            assert!(setup.sent() < 8 << 20, "nothing is downloaded that cannot be kept");
        }
    }
}

#[test]
fn a_write_that_fails_is_a_disk_error_and_the_next_pull_succeeds() {
    let setup = Setup::new();
    let report = with_short_files(&setup, "large");
    is_a_disk_error(&setup, &report);
    setup.pulls("large", &setup.large());
}

#[test]
fn a_store_that_cannot_be_written_to_is_a_disk_error() {
    let setup = Setup::new();
    // Even root cannot make files here.
    let mut config = setup.config();
    config.store = "/proc/mullama/models".into();
    let hub = mullama_hub::Hub::new(config).unwrap();
    let error = crate::setup::pull(&hub, "tiny").unwrap_err();
    assert_eq!(error.code(), "DOWNLOAD_ERROR");
    assert!(error.to_string().contains("/proc/mullama"), "{error}");
    assert_eq!(setup.file_requests().len(), 0, "nothing is downloaded that cannot be kept");
}

#[test]
fn a_file_where_the_store_should_be_is_a_disk_error_and_stays() {
    let setup = Setup::new();
    fs::write(setup.store(), "precious").unwrap();
    let failure = setup.failure("tiny");
    assert_eq!(failure.reason(), "disk", "{failure}");
    assert!(failure.to_string().contains(&*setup.store().to_string_lossy()), "{failure}");
    assert_eq!(fs::read_to_string(setup.store()).unwrap(), "precious");
}

/// The paths of the store at which a pull of `tiny` makes files, except the manifest and its blobs.
fn blob(setup: &Setup) -> std::path::PathBuf {
    setup.store().join("blobs").join(format!("sha256-{}", setup.demo().sha256()))
}

#[test]
fn a_folder_where_a_file_should_be_is_a_disk_error() {
    for ending in ["", ".part", ".part.json", ".lock"] {
        let setup = Setup::new();
        let mut path = blob(&setup).into_os_string();
        path.push(ending);
        fs::create_dir_all(&path).unwrap();
        let result = setup.pull("tiny");
        match result {
            // A record that cannot be read is none.
            Ok(model) => crate::setup::assert_is(&model.path, &setup.demo()),
            Err(error) => assert!(error.to_string().contains("sha256-"), "{ending}: {error}"),
        }
        assert!(Path::new(&path).is_dir() || ending == ".part.json", "{ending} was replaced");
    }
}

#[test]
fn nothing_is_written_through_a_link_that_lies_in_the_store() {
    for ending in [".part", ".part.json", ".lock", ".part.json.tmp"] {
        let setup = Setup::new();
        let victim = setup.folder.path().join("victim");
        fs::write(&victim, "precious").unwrap();
        let mut path = blob(&setup).into_os_string();
        path.push(ending);
        fs::create_dir_all(setup.store().join("blobs")).unwrap();
        std::os::unix::fs::symlink(&victim, &path).unwrap();
        let _ = setup.pull("tiny");
        assert_eq!(fs::read_to_string(&victim).unwrap(), "precious", "through {ending}");
    }
}

#[test]
fn nothing_is_written_into_a_folder_that_the_store_links_to() {
    for inner in ["blobs", "manifests"] {
        let setup = Setup::new();
        let elsewhere = setup.folder.path().join("elsewhere");
        fs::create_dir_all(&elsewhere).unwrap();
        fs::create_dir_all(setup.store()).unwrap();
        std::os::unix::fs::symlink(&elsewhere, setup.store().join(inner)).unwrap();
        let failure = setup.failure("tiny");
        assert_eq!(failure.reason(), "disk", "{inner}: {failure}");
        assert_eq!(files(&elsewhere), Vec::<std::path::PathBuf>::new(), "{inner}");
    }
}

#[test]
fn a_store_that_is_itself_a_link_is_the_user_s_choice_and_works() {
    let setup = Setup::new();
    let elsewhere = setup.folder.path().join("elsewhere");
    fs::create_dir_all(&elsewhere).unwrap();
    std::os::unix::fs::symlink(&elsewhere, setup.store()).unwrap();
    setup.pulls("tiny", &setup.demo());
    assert!(files(&elsewhere).len() >= 2);
}

#[test]
fn a_published_blob_that_was_truncated_is_downloaded_again() {
    let setup = Setup::new();
    let model = setup.pulls("tiny", &setup.demo());
    let mut permissions = fs::metadata(&model.path).unwrap().permissions();
    permissions.set_mode(0o644);
    fs::set_permissions(&model.path, permissions).unwrap();
    fs::OpenOptions::new().write(true).open(&model.path).unwrap().set_len(1000).unwrap();
    setup.pulls("tiny", &setup.demo());
}
