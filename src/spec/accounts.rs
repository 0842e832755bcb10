//! Users and groups of the image.

use super::paths::id;
use crate::yaml::{Error, Value};

/// The accounts that `/etc/passwd` and `/etc/group` of the image list besides `root` and `nobody`.
///
/// No name and no number is there twice, every user's group is among the groups, and every member
/// of a group is a user.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Accounts {
    /// The users in the spec's order.
    pub users: Vec<User>,
    /// The groups in the spec's order, then those that users brought along.
    pub groups: Vec<Group>,
}

/// A line of `/etc/passwd`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// Login name.
    pub name: String,
    /// Number.
    pub uid: u32,
    /// Number of the user's own group.
    pub gid: u32,
    /// Free text, mostly the full name; empty if not given.
    pub gecos: String,
    /// Home folder.
    pub home: String,
    /// Login shell.
    pub shell: String,
}

/// A line of `/etc/group`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// Name.
    pub name: String,
    /// Number.
    pub gid: u32,
    /// Names of the users that belong to it besides those whose own group it is.
    pub members: Vec<String>,
}

/// Names and numbers that every image has, as users and as groups.
const STANDARD: &[(&str, u32)] = &[("root", 0), ("nobody", 65534)];

/// Reads the mapping under the key `accounts`, and the user that `runAs` asks for, by number.
pub(super) fn read(value: &Value<'_>) -> Result<(Accounts, Option<u32>), Error> {
    let fields = value.fields(&["users", "groups", "runAs"])?;
    let mut accounts = Accounts::default();
    let list = |key| fields.get(key).map_or(Ok(Vec::new()), Value::list);
    let (users, groups) = (list("users")?, list("groups")?);
    for item in &users {
        let user = user(item)?;
        check_free(
            item,
            &user.name,
            user.uid,
            accounts.users.iter().map(|user| (user.name.as_str(), user.uid)),
        )?;
        accounts.users.push(user);
    }
    for item in &groups {
        let group = group(item, &accounts.users)?;
        check_free(
            item,
            &group.name,
            group.gid,
            accounts.groups.iter().map(|group| (group.name.as_str(), group.gid)),
        )?;
        accounts.groups.push(group);
    }
    for (item, user) in users.iter().zip(&accounts.users) {
        let known = |gid| STANDARD.iter().any(|(_, number)| *number == gid);
        if known(user.gid) || accounts.groups.iter().any(|group| group.gid == user.gid) {
            continue;
        }
        if user.gid != user.uid {
            let at = item.fields(USER_KEYS)?;
            let at = at.get("gid").unwrap_or(item);
            return Err(
                at.error(format!("no group has the number {}", user.gid), "add the group to `groups`")
            );
        }
        if accounts.groups.iter().any(|group| group.name == user.name) {
            let reason = format!("the group `{}` has another number than the user of this name", user.name);
            return Err(item.error(reason, "give the user that group's number as `gid`"));
        }
        accounts.groups.push(Group { name: user.name.clone(), gid: user.gid, members: Vec::new() });
    }
    let run_as = fields.get("runAs").map(|value| run_as(value, &accounts.users)).transpose()?;
    Ok((accounts, run_as))
}

const USER_KEYS: &[&str] = &["name", "uid", "gid", "home", "shell", "gecos"];

fn user(item: &Value<'_>) -> Result<User, Error> {
    let fields = item.fields(USER_KEYS)?;
    let name = name(fields.require("name", "write `name:` with a login name")?)?;
    let uid = id(fields.require("uid", "write `uid:` with a number, such as 1000")?)?;
    let gid = fields.get("gid").map(id).transpose()?.unwrap_or(uid);
    let folder = |key, default: String| fields.get(key).map_or(Ok(default), path);
    let gecos = fields.get("gecos").map(line).transpose()?.unwrap_or_default();
    let (home, shell) = (folder("home", format!("/home/{name}"))?, folder("shell", "/bin/sh".to_owned())?);
    Ok(User { name, uid, gid, gecos, home, shell })
}

fn group(item: &Value<'_>, users: &[User]) -> Result<Group, Error> {
    let fields = item.fields(&["name", "gid", "members"])?;
    let group = name(fields.require("name", "write `name:` with the group's name")?)?;
    let gid = id(fields.require("gid", "write `gid:` with a number, such as 1000")?)?;
    let mut members: Vec<String> = Vec::new();
    for member in fields.get("members").map_or(Ok(Vec::new()), Value::list)? {
        let user = name(&member)?;
        if !users.iter().any(|known| known.name == user) && !STANDARD.iter().any(|(known, _)| *known == user)
        {
            return Err(member.error(format!("there is no user `{user}`"), "add the user to `users`"));
        }
        if members.contains(&user) {
            return Err(member.error(format!("`{user}` is a member twice"), "remove one of the two"));
        }
        members.push(user);
    }
    Ok(Group { name: group, gid, members })
}

/// Refuses a name or number that is taken, by another item or by one that every image has.
fn check_free<'a>(
    item: &Value<'_>,
    name: &str,
    number: u32,
    taken: impl Iterator<Item = (&'a str, u32)>,
) -> Result<(), Error> {
    for (other, other_number) in taken {
        if other == name {
            return Err(item.error(format!("`{name}` is there twice"), "remove one of the two, or rename it"));
        }
        if other_number == number {
            return Err(
                item.error(format!("the number {number} is `{other}`'s already"), "give it another number")
            );
        }
    }
    for (standard, standard_number) in STANDARD {
        if (*standard == name) != (*standard_number == number) {
            let reason = format!("`{standard}` is always number {standard_number}, and nobody else is");
            return Err(item.error(reason, "give another name or number"));
        }
    }
    Ok(())
}

fn run_as(value: &Value<'_>, users: &[User]) -> Result<u32, Error> {
    if value.is_integer() {
        return id(value);
    }
    let name = value.text()?;
    let known = users.iter().map(|user| (user.name.as_str(), user.uid)).chain(STANDARD.iter().copied());
    value
        .word(&known.collect::<Vec<_>>())
        .map_err(|error| value.error(format!("there is no user `{name}`"), error.fix()))
}

/// A portable name (POSIX, "User Name"), as `useradd` accepts it.
fn name(value: &Value<'_>) -> Result<String, Error> {
    let name = value.text()?;
    let starts_well = name.starts_with(|first: char| first.is_ascii_lowercase() || first == '_');
    let word = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_' || byte == b'-';
    if starts_well && name.len() <= 32 && name.bytes().all(word) {
        return Ok(name.to_owned());
    }
    let fix = "write at most 32 of `a-z0-9_-`, the first a letter or `_`";
    Err(value.error(format!("`{name}` is not a name of an account"), fix))
}

fn path(value: &Value<'_>) -> Result<String, Error> {
    let path = line(value)?;
    if path.starts_with('/') {
        return Ok(path);
    }
    Err(value.error(format!("`{path}` is not an absolute path"), "start it with `/`"))
}

/// A field of a line, which `:` and the line's end would close.
fn line(value: &Value<'_>) -> Result<String, Error> {
    let text = value.text()?;
    if text.contains(|character: char| character == ':' || character.is_control()) {
        return Err(value.error(format!("`{text}` has a `:` or a control character"), "remove it"));
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::yaml::Document;

    fn accounts(text: &str) -> (Accounts, Option<u32>) {
        read(&Document::parse("f", text.as_bytes()).unwrap().root()).unwrap()
    }

    #[test]
    fn a_user_without_gid_brings_its_own_group() {
        let (accounts, run_as) = accounts("{users: [{name: app, uid: 1000}], runAs: app}");

        assert_eq!(
            accounts.users,
            [User {
                name: "app".to_owned(),
                uid: 1000,
                gid: 1000,
                gecos: String::new(),
                home: "/home/app".to_owned(),
                shell: "/bin/sh".to_owned(),
            }]
        );
        assert_eq!(accounts.groups, [Group { name: "app".to_owned(), gid: 1000, members: Vec::new() }]);
        assert_eq!(run_as, Some(1000));
    }

    #[test]
    fn a_user_may_join_groups_of_the_spec() {
        let text = "{users: [{name: app, uid: 7, gid: 9, gecos: The App, home: /, shell: /bin/bash}],
            groups: [{name: web, gid: 9}, {name: log, gid: 10, members: [app, root]}], runAs: 65532}";

        let (accounts, run_as) = accounts(text);

        let groups: Vec<_> =
            accounts.groups.iter().map(|group| (group.name.as_str(), group.members.len())).collect();
        assert_eq!(groups, [("web", 0), ("log", 2)]);
        assert_eq!(accounts.users[0].gecos, "The App");
        assert_eq!(run_as, Some(65532));
    }
}
