//! The servers that one core talks to: those of the program, and after them those that redirects lead to.

use std::cell::RefCell;
use std::rc::Rc;

use super::connect::Shared;
use crate::prepare::Origin;

/// How many servers a core may come to know by redirects.
const FOUND_MAX: usize = 64;

/// One server.
#[derive(Debug)]
pub struct Server {
    /// Where its connections go.
    pub origin: Origin,
    /// The connections that all VUs of the core share; `None`: each VU has its own.
    pub shared: Option<Rc<Shared>>,
}

/// All of them, by the numbers of origins.
#[derive(Debug)]
pub struct Servers {
    all: RefCell<Vec<Rc<Server>>>,
    known_max: usize,
    /// How many connections are shared to each.
    shared: Option<usize>,
}

impl Servers {
    /// Those of a program; `shared`: the most connections to each that VUs share.
    pub fn new(origins: &[Origin], shared: Option<usize>) -> Self {
        let all = origins.iter().map(|origin| server(origin.clone(), shared)).collect();
        Self { all: RefCell::new(all), known_max: origins.len() + FOUND_MAX, shared }
    }

    /// By its number.
    ///
    /// # Panics
    /// No origin has it.
    #[inline]
    pub fn get(&self, origin: u32) -> Rc<Server> {
        self.all.borrow()[origin as usize].clone()
    }

    /// The number of an origin, which is new or not; `None`: too many are known already.
    pub fn find_or_add(&self, origin: &Origin) -> Option<u32> {
        let mut all = self.all.borrow_mut();
        let at = match all.iter().position(|server| server.origin == *origin) {
            Some(at) => at,
            None if all.len() >= self.known_max => return None,
            None => {
                all.push(server(origin.clone(), self.shared));
                all.len() - 1
            }
        };
        Some(at as u32)
    }
}

fn server(origin: Origin, shared: Option<usize>) -> Rc<Server> {
    Rc::new(Server { origin, shared: shared.map(Shared::new) })
}
