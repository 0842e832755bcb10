//! What headers of their own say of the member after them: records of pax ("pax Extended Header"), and GNU's long names.

use super::ArchiveFault;

/// What the headers before a member's own say of it.
#[derive(Default)]
pub(super) struct Extended {
    pub(super) name: Option<Vec<u8>>,
    pub(super) link: Option<Vec<u8>>,
    pub(super) size: Option<u64>,
    pub(super) sparse: bool,
}

impl Extended {
    /// Records of the form `LENGTH KEY=VALUE\n`; the length counts all of that.
    pub(super) fn add_pax(
        &mut self,
        mut records: &[u8],
        damaged: impl Fn() -> ArchiveFault,
    ) -> Result<(), ArchiveFault> {
        // Some fill up the last block with zeros and count these.
        while records.first().is_some_and(|byte| *byte != 0) {
            let space = records.iter().take(20).position(|byte| *byte == b' ').ok_or_else(&damaged)?;
            let length = std::str::from_utf8(&records[..space]).ok().and_then(|text| text.parse().ok());
            let length: usize = length.filter(|length| *length > space).ok_or_else(&damaged)?;
            let record = records.get(space + 1..length).and_then(|record| record.strip_suffix(b"\n"));
            let record = record.ok_or_else(&damaged)?;
            let equals = record.iter().position(|byte| *byte == b'=').ok_or_else(&damaged)?;
            let (key, value) = (&record[..equals], record[equals + 1..].to_vec());
            match key {
                b"path" => self.set_name(value, &damaged)?,
                b"linkpath" => self.set_link(value, &damaged)?,
                b"size" => {
                    let size = String::from_utf8(value).ok().and_then(|text| text.parse().ok());
                    if self.size.replace(size.ok_or_else(&damaged)?).is_some() {
                        return Err(damaged());
                    }
                }
                key => self.sparse |= key.starts_with(b"GNU.sparse."),
            }
            records = &records[length..];
        }
        Ok(())
    }

    pub(super) fn set_name(
        &mut self,
        name: Vec<u8>,
        twice: impl Fn() -> ArchiveFault,
    ) -> Result<(), ArchiveFault> {
        let before = self.name.replace(without_end(name));
        before.map_or(Ok(()), |_| Err(twice()))
    }

    pub(super) fn set_link(
        &mut self,
        link: Vec<u8>,
        twice: impl Fn() -> ArchiveFault,
    ) -> Result<(), ArchiveFault> {
        let before = self.link.replace(without_end(link));
        before.map_or(Ok(()), |_| Err(twice()))
    }
}

/// GNU's long names end with a NUL.
fn without_end(mut name: Vec<u8>) -> Vec<u8> {
    if name.last() == Some(&0) {
        name.pop();
    }
    name
}
