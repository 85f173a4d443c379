//! Records and blobs in a Redis or Valkey server, which several processes share.
//!
//! One server, with replicas or without; not a cluster. All keys of an owner begin with
//! `longhand:OWNER:`. There `sessions` and `documents` are hashes of records, `blob:ID` are the states,
//! `used` counts them, `lease:ITEM` is the right to change a record, with a time to live, and `fences`
//! the number of the last holder of each. `longhand:owners` is the set of all owners, and
//! `longhand:expires` holds the records that expire, as `OWNER:ITEM`, by their time. A write names the
//! number it holds, and one script checks it and writes: a holder that was stopped for so long that
//! another one has taken over is refused, however late its write comes (fencing tokens; M. Kleppmann,
//! How to do distributed locking, 2016).

use std::collections::HashMap;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use redis::{Client, Connection, RedisError, cmd};

use super::{Backend, Batch, Put, RecordKey, Table};
use crate::error::SessionError;
use crate::name::Owner;
use crate::record::{BlobId, Used};

/// After this time without a sign of its holder a lease can be taken by another.
pub(crate) const LEASE: Duration = Duration::from_secs(30);
/// How long an answer of the server is waited for.
const PATIENCE: Duration = Duration::from_secs(5);
/// Connections that are kept for later.
const SPARE: usize = 8;

/// KEYS: lease, fences. ARGV: item, milliseconds. Gives the number, or 0.
const TAKE: &str = "
if redis.call('EXISTS', KEYS[1]) == 1 then return 0 end
local fence = redis.call('HINCRBY', KEYS[2], ':last', 1)
redis.call('SET', KEYS[1], fence, 'PX', ARGV[2])
redis.call('HSET', KEYS[2], ARGV[1], fence)
return fence";

/// KEYS: lease, fences. ARGV: item, number.
const RELEASE: &str = "
if redis.call('GET', KEYS[1]) == ARGV[2] then redis.call('DEL', KEYS[1]) end
if redis.call('HGET', KEYS[2], ARGV[1]) == ARGV[2] then redis.call('HDEL', KEYS[2], ARGV[1]) end
return 1";

/// KEYS: lease, fences. ARGV: item, number, milliseconds. One that has run out, and that nobody else
/// took, is taken again.
const RENEW: &str = "
if redis.call('HGET', KEYS[2], ARGV[1]) ~= ARGV[2] then return 0 end
redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
return 1";

/// KEYS: fences, used, owners, sessions, documents, expiries, leases…, blobs… ARGV: owner, sessions,
/// bytes, then counted lists: guards (lease, item, number), records to put (4 or 5, item, value, time
/// of expiry or nothing), records to delete (4 or 5, item), blobs to put (blob, value), blobs to
/// delete (blob).
/// Leases end with the write, so that whoever hears of it can take them at once.
const COMMIT: &str = "
local at = 4
local function take() at = at + 1; return ARGV[at - 1] end
local function expiring(table, item) return ARGV[1] .. (table == 4 and ':s' or ':d') .. item end
local guards = {}
for i = 1, tonumber(take()) do
  local lease, item, fence = tonumber(take()), take(), take()
  if redis.call('HGET', KEYS[1], item) ~= fence then return item end
  guards[i] = { lease, item, fence }
end
for _ = 1, tonumber(take()) do
  local table, item, value, expires = tonumber(take()), take(), take(), take()
  redis.call('HSET', KEYS[table], item, value)
  if expires == '' then redis.call('ZREM', KEYS[6], expiring(table, item))
  else redis.call('ZADD', KEYS[6], expires, expiring(table, item)) end
end
for _ = 1, tonumber(take()) do
  local table, item = tonumber(take()), take()
  redis.call('HDEL', KEYS[table], item)
  redis.call('ZREM', KEYS[6], expiring(table, item))
end
for _ = 1, tonumber(take()) do
  local key, value = tonumber(take()), take()
  redis.call('SET', KEYS[key], value)
end
for _ = 1, tonumber(take()) do redis.call('DEL', KEYS[tonumber(take())]) end
redis.call('HINCRBY', KEYS[2], 'sessions', ARGV[2])
redis.call('HINCRBY', KEYS[2], 'bytes', ARGV[3])
redis.call('SADD', KEYS[3], ARGV[1])
for _, guard in ipairs(guards) do
  if redis.call('GET', KEYS[guard[1]]) == guard[3] then redis.call('DEL', KEYS[guard[1]]) end
  redis.call('HDEL', KEYS[1], guard[2])
end
return false";

/// The set of all owners.
const OWNERS: &str = "longhand:owners";
/// Records that expire, in the order of their times.
const EXPIRIES: &str = "longhand:expires";

/// The server, and the leases that this process has in it.
pub(crate) struct Shared {
    server: Arc<Server>,
    /// Rights to give back.
    releases: Sender<(RecordKey, u64)>,
}

struct Server {
    client: Client,
    lease: Duration,
    spare: Mutex<Vec<Connection>>,
    /// Leases that this process holds.
    held: Mutex<HashMap<RecordKey, u64>>,
}

impl Shared {
    /// Connects to a server. Leases that are not renewed run out after `lease`.
    pub(crate) fn connect(url: &str, lease: Duration) -> Result<Self, SessionError> {
        let client = Client::open(url).map_err(storage)?;
        let server = Server { client, lease, spare: Mutex::default(), held: Mutex::default() };
        let server = Arc::new(server);
        server.run(|connection| cmd("PING").query::<String>(connection))?;
        let (releases, received) = channel();
        let keeper = server.clone();
        std::thread::Builder::new()
            .name("longhand-leases".into())
            .spawn(move || keep_leases(&keeper, &received))
            .map_err(|error| SessionError::Storage { what: error.to_string() })?;
        Ok(Self { server, releases })
    }
}

impl Server {
    /// Runs commands on a connection, a new one if an old one has ended. Commands must give the same
    /// result when they are sent twice.
    fn run<T>(
        &self,
        mut run: impl FnMut(&mut Connection) -> Result<T, RedisError>,
    ) -> Result<T, SessionError> {
        let spare = self.spare.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let (mut connection, old) = match spare {
            Some(connection) => (connection, true),
            None => (self.connection()?, false),
        };
        let mut outcome = run(&mut connection);
        if old
            && outcome
                .as_ref()
                .is_err_and(|error| error.is_connection_dropped() || error.is_io_error())
        {
            connection = self.connection()?;
            outcome = run(&mut connection);
        }
        if outcome.is_ok() {
            let mut spare = self.spare.lock().unwrap_or_else(PoisonError::into_inner);
            if spare.len() < SPARE {
                spare.push(connection);
            }
        }
        outcome.map_err(storage)
    }

    fn connection(&self) -> Result<Connection, SessionError> {
        let connection = self.client.get_connection_with_timeout(PATIENCE).map_err(storage)?;
        connection.set_read_timeout(Some(PATIENCE)).map_err(storage)?;
        connection.set_write_timeout(Some(PATIENCE)).map_err(storage)?;
        Ok(connection)
    }

    fn held(&self) -> std::sync::MutexGuard<'_, HashMap<RecordKey, u64>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Backend for Shared {
    fn record(&self, key: &RecordKey) -> Result<Option<Vec<u8>>, SessionError> {
        let table = table_key(&key.owner, key.table);
        self.server.run(|connection| cmd("HGET").arg(&table).arg(&key.item).query(connection))
    }

    fn records(
        &self,
        table: Table,
        owner: &Owner,
        prefix: &str,
    ) -> Result<Vec<(String, Vec<u8>)>, SessionError> {
        let table = table_key(owner, table);
        let all: HashMap<String, Vec<u8>> =
            self.server.run(|connection| cmd("HGETALL").arg(&table).query(connection))?;
        let mut found: Vec<(String, Vec<u8>)> =
            all.into_iter().filter(|(item, _)| item.starts_with(prefix)).collect();
        found.sort_unstable();
        Ok(found)
    }

    fn expired(&self, owner: Option<&Owner>, now: u64) -> Result<Vec<RecordKey>, SessionError> {
        let over: Vec<String> = self.server.run(|connection| {
            cmd("ZRANGEBYSCORE").arg(EXPIRIES).arg("-inf").arg(now).query(connection)
        })?;
        let is_asked = |key: &RecordKey| owner.is_none_or(|owner| key.owner == *owner);
        Ok(over.iter().filter_map(|member| expiring(member)).filter(is_asked).collect())
    }

    fn owners(&self) -> Result<Vec<Owner>, SessionError> {
        let owners: Vec<String> =
            self.server.run(|connection| cmd("SMEMBERS").arg(OWNERS).query(connection))?;
        let mut owners: Vec<Owner> =
            owners.into_iter().filter_map(|owner| Owner::new(owner).ok()).collect();
        owners.sort_unstable();
        Ok(owners)
    }

    fn blob(&self, owner: &Owner, id: BlobId) -> Result<Option<Vec<u8>>, SessionError> {
        self.server.run(|connection| cmd("GET").arg(blob_key(owner, id)).query(connection))
    }

    fn used(&self, owner: &Owner) -> Result<Used, SessionError> {
        let counted: (Option<i64>, Option<i64>) = self.server.run(|connection| {
            let key = owner_key(owner, "used");
            cmd("HMGET").arg(key).arg("sessions").arg("bytes").query(connection)
        })?;
        let of = |count: Option<i64>| u64::try_from(count.unwrap_or_default()).unwrap_or_default();
        Ok(Used { sessions: of(counted.0), bytes: of(counted.1) })
    }

    fn used_by_all(&self) -> Result<Option<Used>, SessionError> {
        let mut all = Used::default();
        for owner in self.owners()? {
            let Used { sessions, bytes } = self.used(&owner)?;
            all.sessions = all.sessions.saturating_add(sessions);
            all.bytes = all.bytes.saturating_add(bytes);
        }
        Ok(Some(all))
    }

    fn commit(&self, batches: &[Batch]) -> Vec<Result<(), SessionError>> {
        batches.iter().map(|batch| self.commit_one(batch)).collect()
    }

    fn lease(&self, key: &RecordKey) -> Result<Option<u64>, SessionError> {
        // Not sent twice: a second answer would say that it is taken, by the first one.
        let mut connection = self.server.connection()?;
        let fence: u64 = cmd("EVAL")
            .arg(TAKE)
            .arg(2)
            .arg(lease_key(key))
            .arg(owner_key(&key.owner, "fences"))
            .arg(fence_item(key))
            .arg(self.server.lease.as_millis() as u64)
            .query(&mut connection)
            .map_err(storage)?;
        if fence == 0 {
            return Ok(None);
        }
        self.server.held().insert(key.clone(), fence);
        Ok(Some(fence))
    }

    fn release(&self, key: &RecordKey, fence: u64) {
        let mut held = self.server.held();
        // A write ends its leases in the server, so that another request of this process may have taken
        // the record since: that one's lease is still to be renewed.
        if held.get(key) == Some(&fence) {
            held.remove(key);
        }
        drop(held);
        // Where the thread has ended, the lease runs out by itself.
        let _ = self.releases.send((key.clone(), fence));
    }

    fn time(&self) -> Result<Option<u64>, SessionError> {
        let (seconds, microseconds): (u64, u64) =
            self.server.run(|connection| cmd("TIME").query(connection))?;
        Ok(Some(1000 * seconds + microseconds / 1000))
    }
}

impl Shared {
    /// One script, which writes all or nothing. Sent twice it writes the same, but counts twice: so
    /// it is sent once, on a connection that answers.
    fn commit_one(&self, batch: &Batch) -> Result<(), SessionError> {
        let owner = &batch.owner;
        let blobs = batch.blobs.iter().map(|&(id, _)| id).chain(batch.drop_blobs.iter().copied());
        let mut keys = vec![
            owner_key(owner, "fences"),
            owner_key(owner, "used"),
            OWNERS.to_owned(),
            table_key(owner, Table::Sessions),
            table_key(owner, Table::Documents),
            EXPIRIES.to_owned(),
        ];
        let first_lease = keys.len() + 1;
        keys.extend(batch.guards.iter().map(|(key, _)| lease_key(key)));
        let first_blob = keys.len() + 1;
        keys.extend(blobs.map(|id| blob_key(owner, id)));
        let table = |key: &RecordKey| match key.table {
            Table::Sessions => 4,
            Table::Documents => 5,
        };
        let mut script = cmd("EVAL");
        script.arg(COMMIT).arg(keys.len()).arg(&keys);
        script.arg(owner.as_str()).arg(batch.sessions).arg(batch.bytes);
        script.arg(batch.guards.len());
        for (place, (key, fence)) in batch.guards.iter().enumerate() {
            script.arg(first_lease + place).arg(fence_item(key)).arg(*fence);
        }
        script.arg(batch.put.len());
        for Put { key, value, expires } in &batch.put {
            let expires = expires.map_or_else(String::new, |expires| expires.to_string());
            script.arg(table(key)).arg(&key.item).arg(&value[..]).arg(expires);
        }
        script.arg(batch.delete.len());
        for key in &batch.delete {
            script.arg(table(key)).arg(&key.item);
        }
        script.arg(batch.blobs.len());
        for (place, (_, bytes)) in batch.blobs.iter().enumerate() {
            script.arg(first_blob + place).arg(&bytes[..]);
        }
        script.arg(batch.drop_blobs.len());
        for place in 0..batch.drop_blobs.len() {
            script.arg(first_blob + batch.blobs.len() + place);
        }
        // A connection of its own is known to be alive.
        let mut connection = self.server.connection()?;
        match script.query::<Option<String>>(&mut connection).map_err(storage)? {
            None => Ok(()),
            Some(name) => Err(SessionError::LeaseLost { name: name[1..].to_owned() }),
        }
    }
}

/// Gives leases back, and renews those that are held, until the store is dropped.
fn keep_leases(server: &Server, releases: &Receiver<(RecordKey, u64)>) {
    let mut renewed = Instant::now();
    loop {
        match releases.recv_timeout((server.lease / 3).saturating_sub(renewed.elapsed())) {
            Ok((key, fence)) => {
                let script = lease_script(RELEASE, &key, fence);
                // What cannot be given back runs out by itself.
                let _ = server.run(|connection| script.query::<i64>(connection));
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
        if renewed.elapsed() >= server.lease / 3 {
            renewed = Instant::now();
            renew(server);
        }
    }
}

/// Lengthens all leases that are held.
fn renew(server: &Server) {
    let held: Vec<(RecordKey, u64)> =
        server.held().iter().map(|(key, &fence)| (key.clone(), fence)).collect();
    for (key, fence) in held {
        let mut script = lease_script(RENEW, &key, fence);
        script.arg(server.lease.as_millis() as u64);
        // One that is lost is found out by the write.
        let _ = server.run(|connection| script.query::<i64>(connection));
    }
}

fn lease_script(script: &str, key: &RecordKey, fence: u64) -> redis::Cmd {
    let mut command = cmd("EVAL");
    command.arg(script).arg(2).arg(lease_key(key)).arg(owner_key(&key.owner, "fences"));
    command.arg(fence_item(key)).arg(fence);
    command
}

fn owner_key(owner: &Owner, what: &str) -> String {
    format!("longhand:{owner}:{what}")
}

fn table_key(owner: &Owner, table: Table) -> String {
    match table {
        Table::Sessions => owner_key(owner, "sessions"),
        Table::Documents => owner_key(owner, "documents"),
    }
}

fn blob_key(owner: &Owner, id: BlobId) -> String {
    owner_key(owner, &format!("blob:{id:032x}"))
}

fn lease_key(key: &RecordKey) -> String {
    owner_key(&key.owner, &format!("lease:{}", fence_item(key)))
}

/// The item with its kind before it. No item is `:last`.
fn fence_item(key: &RecordKey) -> String {
    let kind = match key.table {
        Table::Sessions => 's',
        Table::Documents => 'd',
    };
    format!("{kind}{}", key.item)
}

/// The record that a member of the list of expiries names.
fn expiring(member: &str) -> Option<RecordKey> {
    let (owner, item) = member.split_once(':')?;
    let (kind, item) = item.split_at_checked(1)?;
    let table = match kind {
        "s" => Table::Sessions,
        "d" => Table::Documents,
        _ => return None,
    };
    Some(RecordKey { table, owner: Owner::new(owner).ok()?, item: item.to_owned() })
}

/// The server's message. It never holds the address, which may have a password.
fn storage(error: RedisError) -> SessionError {
    let what = error.to_string();
    // A server over its memory, or one that cannot write its file, says so.
    if what.contains("OOM") || what.contains("MISCONF") {
        return SessionError::Full { what };
    }
    SessionError::Storage { what }
}

#[cfg(test)]
mod tests;
