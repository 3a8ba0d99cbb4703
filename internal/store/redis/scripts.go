package redis

import goredis "github.com/redis/go-redis/v9"

// scripts are what has to happen at once, or not at all. Each looks before it writes, and a server that cannot write refuses the
// first write, so that an error means that nothing has changed. After a first write the server lets a script go on even without
// memory: those that must not fail then begin with a removal, which needs none.
type scripts struct {
	commit, append, ack, bury, replay, discard, acquire, renew, release *goredis.Script
}

func newScripts() scripts {
	return scripts{
		commit:  goredis.NewScript(commitScript),
		append:  goredis.NewScript(appendScript),
		ack:     goredis.NewScript(entryFields + ackScript),
		bury:    goredis.NewScript(entryFields + buryScript),
		replay:  goredis.NewScript(entryFields + replayScript),
		discard: goredis.NewScript(entryFields + discardScript),
		acquire: goredis.NewScript(acquireScript),
		renew:   goredis.NewScript(renewScript),
		release: goredis.NewScript(releaseScript),
	}
}

// commitScript stores a batch of decisions if the one before is the one its maker knows, and answers 1, or 0 if it is not. A
// batch that is stored already is a success: its answer was lost. Drops come as sequences of 8 bytes each.
//
// KEYS log, decisions, deletions; ARGV the batch before, this batch, last, floor, floor as 8 bytes, drops, number of decisions, then
// decisions and deletions.
const commitScript = `
local stored = redis.call('HGET', KEYS[1], 'batch') or ''
if stored == ARGV[2] then return 1 end
if stored ~= ARGV[1] then return 0 end
local function add(key, from, to)
  for i = from, to, 500 do
    local args = {}
    for j = i, math.min(i + 499, to) do
      args[#args + 1] = '0'
      args[#args + 1] = ARGV[j]
    end
    redis.call('ZADD', key, unpack(args))
  end
end
local n = tonumber(ARGV[7])
local drops = ARGV[6]
for i = 1, #drops, 8 do
  local s = string.sub(drops, i, i + 7)
  redis.call('ZREMRANGEBYLEX', KEYS[2], '[' .. s, '[' .. s .. '\255')
end
redis.call('HSET', KEYS[1], 'batch', ARGV[2], 'last', ARGV[3], 'floor', ARGV[4])
add(KEYS[2], 8, 7 + n)
add(KEYS[3], 8 + n, #ARGV)
if ARGV[4] ~= '0' then redis.call('ZREMRANGEBYLEX', KEYS[3], '-', '[' .. ARGV[5] .. '\255') end
return 1
`

// appendScript adds a batch to the queue and answers its id, or, when that is full, the numbers of batches, of dead
// letters and of bytes.
//
// KEYS queue, dead, bodies, stats; ARGV most bytes, most batches, source, time, events, body.
const appendScript = `
local stats = redis.call('HMGET', KEYS[4], 'bytes', 'deadBytes')
local used = (tonumber(stats[1]) or 0) + (tonumber(stats[2]) or 0)
local waiting, dead = redis.call('XLEN', KEYS[1]), redis.call('XLEN', KEYS[2])
local size = #ARGV[6]
if used + size > tonumber(ARGV[1]) or waiting + dead >= tonumber(ARGV[2]) then return {waiting, dead, used} end
local id = redis.call('XADD', KEYS[1], '*', 's', ARGV[3], 't', ARGV[4], 'n', ARGV[5], 'z', size)
redis.call('HSET', KEYS[3], id, ARGV[6])
redis.call('HINCRBY', KEYS[4], 'bytes', size)
redis.call('HINCRBY', KEYS[4], 'events', ARGV[5])
return id
`

// entryFields takes an entry out of a stream and returns its fields, the body's key (b) among them; nil when it is not there. Its numbers are such that
// no later command of the script fails for them, which is also why they are taken away by "0 - n": "-n" makes "-0" of 0.
const entryFields = `
local function count(text)
  local n = tonumber(text)
  if n and n >= 0 and n <= 2^40 and n == math.floor(n) then return n end
  return 0
end
local function take(key, id)
  local e = redis.call('XRANGE', key, id, id)[1]
  if not e or redis.call('XDEL', key, id) == 0 then return nil end
  local f = {s = '', t = '0', b = id}
  for i = 1, #e[2], 2 do f[e[2][i]] = e[2][i + 1] end
  f.n, f.z = count(f.n), count(f.z)
  return f
end
`

// ackScript removes batches. KEYS queue, bodies, attempts, stats; ARGV ids.
const ackScript = `
for _, id in ipairs(ARGV) do
  local f = take(KEYS[1], id)
  if f then
    redis.call('HDEL', KEYS[2], f.b)
    redis.call('HDEL', KEYS[3], id)
    redis.call('HINCRBY', KEYS[4], 'bytes', 0 - f.z)
    redis.call('HINCRBY', KEYS[4], 'events', 0 - f.n)
  end
end
return 1
`

// buryScript moves a batch to the dead letters and answers 1, or 0 if it is not there. KEYS queue, dead, attempts, stats; ARGV id, reason, time, attempts
// at least.
const buryScript = `
local f = take(KEYS[1], ARGV[1])
if not f then return 0 end
local attempts = math.max(tonumber(redis.call('HGET', KEYS[3], ARGV[1]) or '0') or 0, tonumber(ARGV[4]))
redis.call('HDEL', KEYS[3], ARGV[1])
redis.call('XADD', KEYS[2], '*', 's', f.s, 't', f.t, 'n', f.n, 'z', f.z, 'b', f.b, 'a', attempts, 'r', ARGV[2], 'u', ARGV[3])
redis.call('HINCRBY', KEYS[4], 'bytes', 0 - f.z)
redis.call('HINCRBY', KEYS[4], 'events', 0 - f.n)
redis.call('HINCRBY', KEYS[4], 'deadBytes', f.z)
return 1
`

// replayScript puts dead letters back into the queue and answers the ids that are not there. KEYS queue, dead, stats; ARGV ids.
const replayScript = `
local missing = {}
for _, id in ipairs(ARGV) do
  local f = take(KEYS[2], id)
  if f then
    redis.call('XADD', KEYS[1], '*', 's', f.s, 't', f.t, 'n', f.n, 'z', f.z, 'b', f.b)
    redis.call('HINCRBY', KEYS[3], 'bytes', f.z)
    redis.call('HINCRBY', KEYS[3], 'events', f.n)
    redis.call('HINCRBY', KEYS[3], 'deadBytes', 0 - f.z)
  else
    missing[#missing + 1] = id
  end
end
return missing
`

// discardScript removes dead letters and answers the ids that are not there. KEYS dead, bodies, stats; ARGV ids.
const discardScript = `
local missing = {}
for _, id in ipairs(ARGV) do
  local f = take(KEYS[1], id)
  if f then
    redis.call('HDEL', KEYS[2], f.b)
    redis.call('HINCRBY', KEYS[3], 'deadBytes', 0 - f.z)
  else
    missing[#missing + 1] = id
  end
end
return missing
`

// countScript counts that batches are handed out; not those that were acknowledged meanwhile, whose counts nobody would remove. It
// is sent whole, since it goes along with other commands. KEYS attempts, bodies; ARGV ids, each followed by its body's key.
const countScript = `
for i = 1, #ARGV, 2 do
  if redis.call('HEXISTS', KEYS[2], ARGV[i + 1]) == 1 then redis.call('HINCRBY', KEYS[1], ARGV[i], 1) end
end
return 1
`

// acquireScript takes a lease and answers "", or who has it. KEYS lease; ARGV value, milliseconds.
const acquireScript = `
local v = redis.call('GET', KEYS[1])
if v and v ~= ARGV[1] then return v end
redis.call('DEL', KEYS[1])
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return ''
`

// renewScript makes a lease last and answers 1, or 0 if somebody else has it. One that the server has lost is taken
// again: nobody had it. KEYS lease; ARGV value, milliseconds.
const renewScript = `
local v = redis.call('GET', KEYS[1])
if v and v ~= ARGV[1] then return 0 end
if v then
  redis.call('PEXPIRE', KEYS[1], ARGV[2])
else
  redis.call('DEL', KEYS[1])
  redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
end
return 1
`

// releaseScript gives a lease back if it is still ours. KEYS lease; ARGV value.
const releaseScript = `
if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end
return 0
`
