//! `volcanion keys`: make, list and revoke the keys of a master's clients.

use serde_json::json;
use volcanion_common::view::{KeyView, NewKeyView};

use super::outcome::print;
use super::plans::pretty;
use crate::args::{KeysArgs, KeysCommand, ListArgs};
use crate::client::Client;
use crate::exit::{Exit, Failure};
use crate::terminal::table::Column::Text;
use crate::terminal::table::table;

/// Does what the words say.
pub async fn keys(args: &KeysArgs) -> Result<Exit, Failure> {
    match &args.command {
        KeysCommand::Create { role, name, expires, list } => {
            let expires_in = expires.map(|time| time.to_string());
            let body = json!({ "name": name, "role": role, "expires_in": expires_in });
            let made: NewKeyView = Client::new(&list.master)?.post("keys", Some(&body)).await?;
            if list.json {
                print(&pretty(&made)?);
            } else {
                // The key alone, so that a script can keep it.
                print(&format!("{}\n", made.key));
                let id = made.about.id;
                eprintln!("key {id} of the role {role} for `{name}`; it is not shown again");
            }
        }
        KeysCommand::List(list) => show(list).await?,
        KeysCommand::Revoke { id, master } => Client::new(master)?.delete(&format!("keys/{id}")).await?,
    }
    Ok(Exit::Done)
}

async fn show(list: &ListArgs) -> Result<(), Failure> {
    let keys: Vec<KeyView> = Client::new(&list.master)?.get("keys", &[]).await?;
    if list.json {
        print(&pretty(&keys)?);
        return Ok(());
    }
    let row = |key: &KeyView| {
        let state = match (&key.revoked_at, &key.expires_at) {
            (Some(at), _) => format!("revoked {at}"),
            (None, Some(at)) => format!("until {at}"),
            (None, None) => "good".to_owned(),
        };
        let used = key.last_used_at.as_deref().unwrap_or("never");
        [key.id.to_string(), key.role.name().to_owned(), key.name.clone(), used.to_owned(), state]
    };
    let head = [Text("ID"), Text("ROLE"), Text("NAME"), Text("LAST USED"), Text("STATE")];
    print(&table(head, &keys.iter().map(row).collect::<Vec<_>>()));
    Ok(())
}
