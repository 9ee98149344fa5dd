//! The agent's own folder of files: what a plan names there (certificates, keys, bodies) is opened here and nowhere else.
//!
//! Takes a folder and a relative path, gives an open regular file. Invariant: nothing outside the folder is ever opened, whatever `..`,
//! absolute path or symbolic link leads there. Links that stay inside are followed: Kubernetes mounts its secrets so.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Component, Path};

use rustix::fs::{Mode, OFlags, ResolveFlags, openat2};
use rustix::io::Errno;

use super::PrepareError;

/// An open file below the folder.
#[derive(Debug)]
pub struct OpenFile {
    /// For reading.
    pub file: File,
    /// Its length when it was opened, in bytes.
    pub length: u64,
}

/// Opens a regular file below the agent's folder. `field` is where the plan names it, for messages.
///
/// # Errors
/// `files`: the agent has no folder, the path leads out of it, or the file is not there, not a file or not readable.
pub fn open(folder: Option<&Path>, field: &str, name: &str) -> Result<OpenFile, PrepareError> {
    let refused = |why: &str| Err(PrepareError::new("files", format!("{field}: `{name}` {why}")));
    let Some(folder) = folder else {
        return refused("is a file, and this agent has no folder of files; start it with --files FOLDER");
    };
    let shown = folder.display();
    let is_below =
        Path::new(name).components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
    if name.is_empty() || !is_below {
        return refused(&format!(
            "does not lie below the agent's folder of files {shown}; give a relative path without `..`"
        ));
    }
    let opened = open_below(folder, name).and_then(|file| file.metadata().map(|about| (file, about)));
    match opened {
        Ok((file, about)) if about.is_file() => Ok(OpenFile { file, length: about.len() }),
        Ok(_) => refused(&format!("in {shown} is not a regular file; name one")),
        Err(error) if leads_out(&error) => refused(&format!(
            "leads out of the agent's folder of files {shown} by a symbolic link; put the file itself there"
        )),
        Err(error) => refused(&format!(
            "cannot be opened in the agent's folder of files {shown}: {error}; put it there on every agent"
        )),
    }
}

/// The whole of a small file below the agent's folder.
///
/// # Errors
/// As [`open`]; also where it has more than `bytes_max` bytes.
pub fn read(folder: Option<&Path>, field: &str, name: &str, bytes_max: u64) -> Result<Vec<u8>, PrepareError> {
    let opened = open(folder, field, name)?;
    let refused = |why: String| PrepareError::new("files", format!("{field}: `{name}` {why}"));
    let mut content = Vec::new();
    let mut limited = opened.file.take(bytes_max + 1);
    limited.read_to_end(&mut content).map_err(|error| refused(format!("cannot be read: {error}")))?;
    if content.len() as u64 > bytes_max {
        return Err(refused(format!("has more than {bytes_max} bytes; give a smaller file")));
    }
    Ok(content)
}

/// The kernel resolves the path in one go and lets no part of it out (openat2, Linux 5.6).
fn open_below(folder: &Path, name: &str) -> io::Result<File> {
    let directory =
        rustix::fs::open(folder, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    // Without NONBLOCK a named pipe would keep the agent until somebody writes to it.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    match openat2(directory, name, flags, Mode::empty(), ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS)
    {
        Ok(file) => Ok(File::from(file)),
        // Older kernels, and sandboxes that do not know it.
        Err(Errno::NOSYS | Errno::PERM) => open_looked_up(folder, name, flags),
        Err(errno) => Err(errno.into()),
    }
}

/// The same where the kernel cannot: the path that it really is, then that one without following links.
fn open_looked_up(folder: &Path, name: &str, flags: OFlags) -> io::Result<File> {
    let folder = folder.canonicalize()?;
    let path = folder.join(name).canonicalize()?;
    if !path.starts_with(&folder) {
        return Err(Errno::XDEV.into());
    }
    Ok(File::from(rustix::fs::open(path, flags | OFlags::NOFOLLOW, Mode::empty())?))
}

fn leads_out(error: &io::Error) -> bool {
    error.raw_os_error() == Some(Errno::XDEV.raw_os_error())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn files_below_the_folder_are_opened_through_links_that_stay_inside() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir_all(folder.path().join("..version")).unwrap();
        fs::write(folder.path().join("..version/a.pem"), "text").unwrap();
        symlink("..version", folder.path().join("..data")).unwrap();
        symlink("..data/a.pem", folder.path().join("a.pem")).unwrap();
        for name in ["a.pem", "./..data/a.pem", "..version/a.pem"] {
            assert_eq!(open(Some(folder.path()), "f", name).unwrap().length, 4);
            assert_eq!(read(Some(folder.path()), "f", name, 4).unwrap(), b"text");
            let flags = OFlags::RDONLY | OFlags::NONBLOCK;
            assert_eq!(open_looked_up(folder.path(), name, flags).unwrap().metadata().unwrap().len(), 4);
        }
        assert!(
            read(Some(folder.path()), "f", "a.pem", 3).unwrap_err().message.contains("more than 3 bytes")
        );
    }

    #[test]
    fn nothing_outside_is_opened_and_each_refusal_says_the_field_the_file_and_the_way_out() {
        let around = tempfile::tempdir().unwrap();
        let folder = around.path().join("files");
        fs::create_dir(&folder).unwrap();
        fs::create_dir(folder.join("sub")).unwrap();
        fs::write(around.path().join("secret"), "s").unwrap();
        symlink("../secret", folder.join("link")).unwrap();
        symlink(around.path().join("secret"), folder.join("absolute-link")).unwrap();
        symlink("..", folder.join("up")).unwrap();
        let check = |name: &str, word: &str| {
            let error = open(Some(&folder), "http.tls.cert", name).unwrap_err();
            assert_eq!(error.code, "files");
            assert!(error.message.starts_with(&format!("http.tls.cert: `{name}` ")), "{error}");
            assert!(error.message.contains(word), "{error}");
        };
        check("../secret", "without `..`");
        check("sub/../../secret", "without `..`");
        check(around.path().join("secret").to_str().unwrap(), "relative path");
        check("", "relative path");
        check("link", "symbolic link");
        check("absolute-link", "symbolic link");
        check("up/secret", "symbolic link");
        check("sub", "not a regular file");
        check("missing", "on every agent");
        for name in ["link", "absolute-link", "up/secret"] {
            assert!(leads_out(&open_looked_up(&folder, name, OFlags::RDONLY).unwrap_err()), "{name}");
        }
        assert!(open(None, "body", "x").unwrap_err().message.contains("--files"));
    }
}
