//! Where files lie that agents read themselves: bodies that are too large for a plan, and client certificates.
//!
//! Takes the paths that flags give, as the user sees them from here. Gives the folder of the agents in this process and, for a
//! plan, names relative to it. On a cluster the files lie with the agents, and names are taken as they are written.

use std::path::{Path, PathBuf};

use crate::exit::Failure;

/// The folder below which agents read files.
#[derive(Debug, PartialEq)]
pub enum Files {
    /// Each agent's own; which, its own `--files` says.
    OfTheAgents,
    /// That of the agents in this process, without links in its path; `None`: nothing is read.
    Here(Option<PathBuf>),
}

impl Files {
    /// `given` by the user, or the `plan`'s own, or the deepest one that holds all of `named`.
    ///
    /// # Errors
    /// A folder or file that is not there.
    pub fn here(given: Option<&Path>, plan: Option<&Path>, named: &[(&str, &Path)]) -> Result<Self, Failure> {
        let folder = given.map(|given| ("--files", given)).or_else(|| {
            let folder = plan?.parent().filter(|folder| !folder.as_os_str().is_empty());
            Some(("the plan's folder", folder.unwrap_or(Path::new("."))))
        });
        if let Some((what, folder)) = folder {
            return Ok(Self::Here(Some(real(what, folder)?)));
        }
        let mut deepest: Option<PathBuf> = None;
        for (flag, path) in named {
            let path = real(flag, path)?;
            let own = path.parent().unwrap_or(&path);
            let common = match &deepest {
                Some(other) => own.ancestors().find(|folder| other.starts_with(folder)).unwrap_or(own),
                None => own,
            };
            deepest = Some(common.to_owned());
        }
        Ok(Self::Here(deepest))
    }

    /// The folder of the agents in this process.
    pub fn folder(&self) -> Option<&Path> {
        match self {
            Self::Here(folder) => folder.as_deref(),
            Self::OfTheAgents => None,
        }
    }

    /// What a plan calls the file that a flag names.
    ///
    /// # Errors
    /// It is not there, or not below the folder.
    pub fn name(&self, flag: &str, path: &Path) -> Result<String, Failure> {
        let name = match self {
            Self::OfTheAgents => path.to_owned(),
            Self::Here(folder) => {
                let folder = folder.as_deref().unwrap_or(Path::new("/"));
                let found = real(flag, path)?;
                let outside = || {
                    Failure::wrong(format!(
                        "{flag} {}: does not lie below {}, where files are read; give --files a folder above it",
                        path.display(),
                        folder.display()
                    ))
                };
                found.strip_prefix(folder).map_err(|_| outside())?.to_owned()
            }
        };
        let wrong = || Failure::wrong(format!("{flag} {}: the name is not UTF-8", path.display()));
        name.into_os_string().into_string().map_err(|_| wrong())
    }

    /// What a plan calls a Unix socket: sockets are looked for from the root, wherever the user stands.
    ///
    /// # Errors
    /// The path is none.
    pub fn socket(&self, flag: &str, path: &Path) -> Result<String, Failure> {
        let whole = match self {
            Self::OfTheAgents => Ok(path.to_owned()),
            Self::Here(_) => std::path::absolute(path),
        };
        let whole = whole.map_err(|error| Failure::wrong(format!("{flag} {}: {error}", path.display())))?;
        let wrong = || Failure::wrong(format!("{flag} {}: the path is not UTF-8", path.display()));
        whole.into_os_string().into_string().map_err(|_| wrong())
    }
}

/// The path without links and `..`, which must be there.
fn real(what: &str, path: &Path) -> Result<PathBuf, Failure> {
    path.canonicalize().map_err(|error| Failure::wrong(format!("{what} {}: {error}", path.display())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn names_are_relative_to_the_folder_and_never_outside_of_it() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap();
        fs::create_dir_all(root.join("a/b")).unwrap();
        for name in ["a/plan.yaml", "a/b/key", "cert"] {
            fs::write(root.join(name), "x").unwrap();
        }
        let (plan, key, cert) = (root.join("a/plan.yaml"), root.join("a/b/key"), root.join("cert"));
        let of_plan = Files::here(None, Some(&plan), &[]).unwrap();
        assert_eq!(of_plan.folder(), Some(root.join("a").as_path()));
        assert_eq!(of_plan.name("--key", &key).unwrap(), "b/key");
        assert_eq!(of_plan.name("--key", &root.join("a/b/../b/key")).unwrap(), "b/key");
        let outside = of_plan.name("--cert", &cert).unwrap_err().to_string();
        assert!(outside.contains("--files"), "{outside}");
        assert!(of_plan.name("--key", &root.join("a/none")).is_err());

        let given = Files::here(Some(&root), Some(&plan), &[]).unwrap();
        assert_eq!(given.name("--key", &key).unwrap(), "a/b/key");
        assert!(Files::here(Some(&root.join("none")), None, &[]).is_err());

        let named = Files::here(None, None, &[("--key", &key), ("--cert", &cert)]).unwrap();
        assert_eq!(named, Files::Here(Some(root.clone())));
        assert_eq!(named.name("--cert", &cert).unwrap(), "cert");
        assert_eq!(Files::here(None, None, &[("--key", &key)]).unwrap().folder(), key.parent());
        assert_eq!(Files::here(None, None, &[]).unwrap(), Files::Here(None));
    }

    #[test]
    fn on_a_cluster_names_are_those_of_the_agents() {
        assert_eq!(Files::OfTheAgents.name("--key", Path::new("certs/key")).unwrap(), "certs/key");
        assert_eq!(Files::OfTheAgents.socket("--unix-socket", Path::new("/run/s")).unwrap(), "/run/s");
        assert!(Files::Here(None).socket("--unix-socket", Path::new("s")).unwrap().starts_with('/'));
    }
}
