"""What must happen in one step, in Lua: the steps of the table in `_delivery`, and a few that lead to them.

Keys come by KEYS; channel names and consumers, which no Cluster hashes, by ARGV.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

__all__ = [
    "ALLOW_OOM",
    "CLAIM",
    "COUNT_HEARERS",
    "CREATE_GROUP",
    "MAX_HELD",
    "MAX_TRIES",
    "PUSH_LIST",
    "PUSH_STREAM",
    "REAP_LIST",
    "REAP_STREAM",
    "REJECT_LIST",
    "REJECT_POPPED",
    "REJECT_STREAM",
    "RETURN_LIST",
    "RETURN_POPPED",
    "RETURN_STREAM",
    "SCRIPTS",
    "SETTLE_LIST",
    "SETTLE_OWN_STREAM",
    "SETTLE_STREAM",
    "TAKEN_BEFORE",
    "TAKE_LIST",
    "TAKING",
    "TRIES_LIST",
    "TRIES_STREAM",
    "Script",
]

MAX_DEAD = 1_000  # dead letters kept at an address
MAX_TRIES = 5  # servers that died over a request they may have begun; then it is a dead letter
MAX_HELD = 64  # deliveries since its last try, each to a server that died; then it is a dead letter too


TAKING = ":taken"  # behind the name of a consumer: what is pending for it counts as begun
MAX_OWN = 10_000  # entries that one process has taken
TAKEN_BEFORE = 2  # by an earlier session of the process that reaps; 1 by another process, 0 by nobody

ALLOW_OOM = "#!lua flags=allow-oom\n"


@dataclass(frozen=True, slots=True)
class Script:
    """`grows`: it adds to what waits, and is refused when Redis is full; all others help to empty it."""

    body: str
    grows: bool = False
    source: str = field(init=False, repr=False)
    sha: bytes = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "source", self.body if self.grows else ALLOW_OOM + self.body)
        object.__setattr__(self, "sha", hashlib.sha1(self.source.encode()).hexdigest().encode())


# -- sending ----------------------------------------------------------------------------------------

# ARGV: the channel of those who serve, or nothing; envelopes. 0, and nothing is pushed, when nobody serves.
_ASK = """
if ARGV[1] ~= '' and redis.call('PUBSUB', 'NUMSUB', ARGV[1])[2] == 0 then return 0 end
"""

PUSH_STREAM = Script(
    _ASK
    + """
local call, key = redis.call, KEYS[1]
for i = 2, #ARGV do call('XADD', key, '*', '__data__', ARGV[i]) end
return 1
""",
    grows=True,
)

PUSH_LIST = Script(
    _ASK
    + """
redis.call('RPUSH', KEYS[1], unpack(ARGV, 2))
return 1
""",
    grows=True,
)

# -- streams ----------------------------------------------------------------------------------------

# ARGV: group. It begins at the first entry: what waited for a server is found by it.
CREATE_GROUP = Script("""
local answer = redis.pcall('XGROUP', 'CREATE', KEYS[1], ARGV[1], '0', 'MKSTREAM')
if answer.err and not string.find(answer.err, 'BUSYGROUP') then return answer end
return 1
""")

# ARGV: group, ids. What is answered is 1 for each that nobody had taken before.
_ACK = """
local mine, gone = {}, {}
for i = 2, #ARGV do
  mine[i - 1] = redis.call('XACK', KEYS[1], ARGV[1], ARGV[i])
  if mine[i - 1] == 1 then gone[#gone + 1] = ARGV[i] end
end
"""

# An entry leaves a stream of ours with its ack; a shared one only where nobody else reads.
SETTLE_STREAM = Script(
    _ACK
    + """
if #gone > 0 and #redis.call('XINFO', 'GROUPS', KEYS[1]) == 1 then redis.call('XDEL', KEYS[1], unpack(gone)) end
return mine
"""
)

# The same where nobody else reads, which needs no look at the groups.
SETTLE_OWN_STREAM = Script(
    _ACK
    + """
if #gone > 0 then redis.call('XDEL', KEYS[1], unpack(gone)) end
return mine
"""
)

# ARGV: group, id, envelope. As if it had never been delivered, behind the others.
RETURN_STREAM = Script("""
if redis.call('XACK', KEYS[1], ARGV[1], ARGV[2]) == 0 then return 0 end
redis.call('XADD', KEYS[1], '*', '__data__', ARGV[3])
if #redis.call('XINFO', 'GROUPS', KEYS[1]) == 1 then redis.call('XDEL', KEYS[1], ARGV[2]) end
return 1
""")

# Two counts in one number: of tries after the first, and, below `MAX_HELD`, of deliveries since the last try. A server
# that reaps what itself held before it reconnected has not died.
_COUNT = f"""
local function of_tries(tries) return (tries - 1) * {MAX_HELD} + 1 end
local function tries_begun(count) return math.floor(count / {MAX_HELD}) + 2 end
local function was_begun_again(count) return count >= {MAX_HELD} end
local function is_hopeless(count) return count % {MAX_HELD} == {MAX_HELD - 1} or tries_begun(count) > {MAX_TRIES} end
local function deaths(consumer, mine) return consumer:match('^%x+') == mine:match('^%x+') and 0 or 1 end
"""

# ARGV: group, this consumer, id, tries: one more when it begins again, and one less when that is given up in good
# order. 0 when it is another's by now.
TRIES_STREAM = Script(
    _COUNT
    + """
if #redis.call('XPENDING', KEYS[1], ARGV[1], ARGV[3], ARGV[3], 1, ARGV[2]) == 0 then return 0 end
redis.call('XCLAIM', KEYS[1], ARGV[1], ARGV[2], 0, ARGV[3], 'RETRYCOUNT', of_tries(ARGV[4]), 'JUSTID')
return 1
"""
)

# To the dead letters, if nobody took it meanwhile.
_BURY_STREAM = f"""
local function bury(group, id, fields)
  if redis.call('XACK', KEYS[1], group, id) == 0 then return 0 end
  redis.call('XADD', KEYS[2], 'MAXLEN', '~', {MAX_DEAD}, '*', unpack(fields))
  if #redis.call('XINFO', 'GROUPS', KEYS[1]) == 1 then redis.call('XDEL', KEYS[1], id) end
  return 1
end
"""

# KEYS: stream, dead letters. ARGV: group, id, envelope.
REJECT_STREAM = Script(_BURY_STREAM + "return bury(ARGV[1], ARGV[2], {'__data__', ARGV[3]})\n")

# Whose own sign of life had gone does not judge by those of others: Redis was flushed, or had no memory for any.
_BEAT = """
local function beat(consumer, milliseconds)
  return redis.call('SET', 'rpckit:consumer:' .. consumer, 1, 'PX', milliseconds, 'GET')
end
local function is_gone(consumer) return redis.call('PUBSUB', 'NUMSUB', 'rpckit:consumer:' .. consumer)[2] == 0 end
local function is_silent(consumer) return redis.call('EXISTS', 'rpckit:consumer:' .. consumer) == 0 end
local function is_dead(consumer, may_judge) return is_gone(consumer) or (may_judge and is_silent(consumer)) end
"""

# What was taken as begun nobody runs again, so there is time for its process to come back and answer: it is over when
# it has neither a connection nor a sign of life, told by who had one, as nobody has where Redis was away for long; or
# when this is a later session of the same process.
_IS_OVER = f"""
local TAKING = '{TAKING}'
local function session_of(consumer) return (consumer:gsub(TAKING .. '$', '')) end
local function is_over(consumer, mine, may_judge)
  local session = session_of(consumer)
  if session == mine then return false end
  if session == consumer then return is_dead(session, may_judge) end
  return deaths(session, mine) == 0 or (may_judge and is_gone(session) and is_silent(session))
end
local function taken_by(consumer, mine)
  return session_of(consumer) == consumer and 0 or deaths(consumer, mine) == 0 and {TAKEN_BEFORE} or 1
end
local function most_of(by, most) return by == {TAKEN_BEFORE} and {MAX_OWN} or tonumber(most) end
local function first_taken_by(by, count) return by == {TAKEN_BEFORE} and count > 1 and 1 or by end
"""

# KEYS: stream, dead letters. ARGV: group, this consumer, most entries, ms alive (how long it counts as that), 1 to take
# none that was begun again before. What is taken: {id, fields, tries once it is begun, 1 if it is with the dead letters
# now, who had taken it as begun}. At most one begun again before is taken. What was taken by earlier sessions of this
# process comes in any case, as it is in hand already; but what that had taken over from a dead one is still of that.
REAP_STREAM = Script(
    _BEAT
    + _COUNT
    + _BURY_STREAM
    + _IS_OVER
    + """
local may_judge = beat(ARGV[2], ARGV[4])
local taken, alone = {}, tonumber(ARGV[5]) == 1
if redis.call('EXISTS', KEYS[1]) == 0 then return taken end
for _, info in ipairs(redis.call('XINFO', 'CONSUMERS', KEYS[1], ARGV[1])) do
  local consumer, pending = info[2], info[4]
  if is_over(consumer, ARGV[2], may_judge) then
    local by = taken_by(consumer, ARGV[2])
    local heir = by == 0 and ARGV[2] or ARGV[2] .. TAKING
    local most = most_of(by, ARGV[3])
    if pending == 0 then
      redis.call('XGROUP', 'DELCONSUMER', KEYS[1], ARGV[1], consumer)
    else
      for _, entry in ipairs(redis.call('XPENDING', KEYS[1], ARGV[1], '-', '+', most, consumer)) do
        local id, count = entry[1], entry[4]
        local again = was_begun_again(count)
        if #taken < most and not (again and alone) then
          local more = count + deaths(consumer, ARGV[2])
          local claimed = redis.call('XCLAIM', KEYS[1], ARGV[1], heir, 0, id, 'RETRYCOUNT', more)
          if #claimed == 0 or not claimed[1] then
            redis.call('XACK', KEYS[1], ARGV[1], id)
          else
            local fields = claimed[1][2]
            local buried = is_hopeless(count) and bury(ARGV[1], id, fields) or 0
            taken[#taken + 1] = {id, fields, tries_begun(count), buried, first_taken_by(by, count)}
            alone = alone or (again and buried == 0)
          end
        end
      end
    end
  end
end
return taken
"""
)

# -- lists ------------------------------------------------------------------------------------------

# KEYS: list, doing, consumers. ARGV: most items, this consumer, which is known as one before it has anything.
TAKE_LIST = Script("""
redis.call('SADD', KEYS[3], ARGV[2])
local taken = redis.call('LPOP', KEYS[1], ARGV[1]) or {}
if #taken > 0 then redis.call('RPUSH', KEYS[2], unpack(taken)) end
return taken
""")

# KEYS: doing, and tries if they were delivered before. ARGV: envelopes. As SETTLE_STREAM.
SETTLE_LIST = Script("""
local mine = {}
for i, item in ipairs(ARGV) do
  mine[i] = redis.call('LREM', KEYS[1], 1, item)
  if mine[i] == 1 and KEYS[2] then redis.call('HDEL', KEYS[2], redis.sha1hex(item)) end
end
return mine
""")

# KEYS: list, doing, tries. ARGV: envelopes, the first one delivered first.
RETURN_LIST = Script("""
local returned = 0
for i = #ARGV, 1, -1 do
  if redis.call('LREM', KEYS[2], 1, ARGV[i]) == 1 then
    redis.call('LPUSH', KEYS[1], ARGV[i])
    redis.call('HDEL', KEYS[3], redis.sha1hex(ARGV[i]))
    returned = returned + 1
  end
end
return returned
""")

# The same of what was popped, and is in no list.
RETURN_POPPED = Script("""
for i = #ARGV, 1, -1 do redis.call('LPUSH', KEYS[1], ARGV[i]) end
return #ARGV
""")

# KEYS: doing, tries. ARGV: envelope, its name among the tries, tries. As TRIES_STREAM; a single try is not noted.
TRIES_LIST = Script(
    _COUNT
    + """
if not redis.call('LPOS', KEYS[1], ARGV[1]) then return 0 end
if tonumber(ARGV[3]) > 1 then
  redis.call('HSET', KEYS[2], ARGV[2], of_tries(ARGV[3]))
else
  redis.call('HDEL', KEYS[2], ARGV[2])
end
return 1
"""
)

_LAY_ASIDE = f"""
local function lay_aside(dead, item)
  redis.call('LPUSH', dead, item)
  redis.call('LTRIM', dead, 0, {MAX_DEAD - 1})
  return 1
end
"""

# As _BURY_STREAM.
_BURY_LIST = (
    _LAY_ASIDE
    + """
local function bury(doing, tries, dead, item, name)
  if redis.call('LREM', doing, 1, item) == 0 then return 0 end
  redis.call('HDEL', tries, name)
  return lay_aside(dead, item)
end
"""
)

# KEYS: doing, tries, dead letters. ARGV: envelope, its name among the tries.
REJECT_LIST = Script(_BURY_LIST + "return bury(KEYS[1], KEYS[2], KEYS[3], ARGV[1], ARGV[2])\n")

# KEYS: dead letters. ARGV: envelope.
REJECT_POPPED = Script(_LAY_ASIDE + "return lay_aside(KEYS[1], ARGV[1])\n")

# KEYS: consumers, tries, doing, dead letters. ARGV: this consumer, most items, ms alive, 1 if alone, prefix of a doing
# list. As REAP_STREAM; what is taken: {envelope, tries once it is begun, 1 if it is with the dead letters now}.
REAP_LIST = Script(
    _BEAT
    + _COUNT
    + _BURY_LIST
    + """
local may_judge = beat(ARGV[1], ARGV[3])
redis.call('SADD', KEYS[1], ARGV[1])
local taken, alone = {}, tonumber(ARGV[4]) == 1
for _, consumer in ipairs(redis.call('SMEMBERS', KEYS[1])) do
  if consumer ~= ARGV[1] and is_dead(consumer, may_judge) then
    local doing = ARGV[5] .. consumer
    local left = redis.call('LLEN', doing)
    if left == 0 and redis.call('EXISTS', 'rpckit:consumer:' .. consumer) == 0 then
      redis.call('SREM', KEYS[1], consumer)  -- so late, because a last move of it may have been on its way
    end
    for i = 1, left do
      if #taken >= tonumber(ARGV[2]) then break end
      local item = redis.call('LINDEX', doing, 0)
      local name = redis.sha1hex(item)
      local count = tonumber(redis.call('HGET', KEYS[2], name) or 1)
      local again = was_begun_again(count)
      if again and alone then
        redis.call('LMOVE', doing, doing, 'LEFT', 'RIGHT')
      elseif is_hopeless(count) then
        taken[#taken + 1] = {item, tries_begun(count), bury(doing, KEYS[2], KEYS[4], item, name)}
      else
        redis.call('LMOVE', doing, KEYS[3], 'LEFT', 'RIGHT')
        redis.call('HSET', KEYS[2], name, count + deaths(consumer, ARGV[1]))
        taken[#taken + 1] = {item, tries_begun(count), 0}
        alone = alone or again
      end
    end
  end
end
return taken
"""
)

# -- channels ---------------------------------------------------------------------------------------

# ARGV: channels. How many hear each. It fails on a replica, which counts its own and hears those of its master.
COUNT_HEARERS = Script("""
local counts = redis.call('PUBSUB', 'NUMSUB', ARGV[1], ARGV[2])
return {counts[2], counts[4]}
""")

# KEYS: a claim. ARGV: milliseconds. 1 if it is taken by this, which succeeds where Redis is full.
CLAIM = Script("return redis.call('SET', KEYS[1], 1, 'NX', 'PX', ARGV[1]) and 1 or 0\n")

SCRIPTS = (
    CLAIM,
    COUNT_HEARERS,
    PUSH_STREAM,
    PUSH_LIST,
    CREATE_GROUP,
    SETTLE_STREAM,
    SETTLE_OWN_STREAM,
    RETURN_STREAM,
    TRIES_STREAM,
    REJECT_STREAM,
    REAP_STREAM,
    TAKE_LIST,
    SETTLE_LIST,
    RETURN_LIST,
    RETURN_POPPED,
    TRIES_LIST,
    REJECT_LIST,
    REJECT_POPPED,
    REAP_LIST,
)
