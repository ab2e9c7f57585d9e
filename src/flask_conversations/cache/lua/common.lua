-- Shared by all scripts: the time and the run id of this server, and the content of the key.
--
-- ARGV[1] names the caller's reservation, lease or call and is the first element of every answer, so that an answer to
-- another call is detected. ARGV[2] is the life of a reservation in milliseconds.

local key, token, reserve_ms = KEYS[1], ARGV[1], tonumber(ARGV[2])

local MAX_ELEMENTS = 5000 -- a longer list is none of ours
local MAX_BYTES = 1048576 -- of all messages of an entry: entries.MAX_BYTES
local SCHEMA = '1'
local HEADER = '^{"_v":(%d+),"_e":"(%x+)","_t":(%d+),"_s":(%d+),"_c":"([^"]*)","_o":"([^"]*)",'
local EMPTY = HEADER .. '"_w":%-?%d+,"_empty":1}$'

local run = redis.call('INFO', 'server'):match('run_id:(%x+)'):sub(1, 12)
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)

local marks = {}  -- reservations as they are stored, the newest first
local lease = nil -- {token =, run =, time =}
local base = {}   -- messages as they are stored, the newest first, or the one element of an empty conversation
local head = nil  -- the header of the newest in base: {version =, run =, time =, owner =}
local reason = 'absent' -- why there is no head

local function number(value)
  return string.format('%.0f', value)
end

local function stamped(version, time, tail)
  return '{"_v":' .. number(version) .. ',"_e":"' .. run .. '","_t":' .. number(time) .. ',' .. tail
end

local function drop_base()
  -- also the remains of a push that ran out of memory
  if #base > 0 then
    if #marks > 0 then
      redis.call('LTRIM', key, 0, #marks - 1)
    else
      redis.call('UNLINK', key)
    end
  end
  base, head = {}, nil
end

local function drop_lease()
  -- a lease is always alone
  if lease then
    redis.call('UNLINK', key)
    lease = nil
  end
end

local function own_mark()
  local start = '{"_r":"' .. token .. '",'
  for place, mark in ipairs(marks) do
    if mark:sub(1, #start) == start then
      return place, tonumber(mark:match('"_t":(%d+)}$'))
    end
  end
end

local function remove_mark(place)
  redis.call('LREM', key, 1, marks[place])
  table.remove(marks, place)
end

local function expire(ttl_ms)
  -- with reservations left the key must not outlive them
  redis.call('PEXPIRE', key, #marks > 0 and reserve_ms or ttl_ms)
end

local function read_head()
  local version, its_run, time, schema, conversation, owner = base[1]:match(HEADER)
  if not version or schema ~= SCHEMA or not key:find('{' .. conversation .. '}', 1, true) then
    reason = 'corrupt'
  elseif its_run ~= run then
    reason = 'restarted'
  else
    head = {version = tonumber(version), time = tonumber(time), owner = owner}
  end
end

local function load()
  local length = redis.pcall('LLEN', key)
  if type(length) == 'table' or length > MAX_ELEMENTS then
    redis.call('UNLINK', key)
    reason = 'corrupt'
    return
  end
  local items = length > 0 and redis.call('LRANGE', key, 0, -1) or {}
  local dead, first = {}, 1
  while items[first] and items[first]:sub(1, 6) == '{"_r":' do
    local time = tonumber(items[first]:match('"_t":(%d+)}$') or 0)
    if math.abs(now - time) > reserve_ms then
      dead[#dead + 1] = items[first]
    else
      marks[#marks + 1] = items[first]
    end
    first = first + 1
  end
  if items[first] and items[first]:sub(1, 6) == '{"_l":' then
    local its_token, its_run, time = items[first]:match('^{"_l":"(%w+)","_e":"(%x+)","_t":(%d+)}$')
    lease = {token = its_token, run = its_run, time = tonumber(time)}
    if #items > 1 or not its_token then
      redis.call('UNLINK', key)
      marks, lease, reason = {}, nil, 'corrupt'
    end
    return
  end
  for place = first, #items do
    base[#base + 1] = items[place]
  end
  for _, mark in ipairs(dead) do
    redis.call('LREM', key, 1, mark)
  end
  if #dead > 0 then
    -- its writer may have committed: the entry below is older than that
    drop_base()
  elseif base[1] then
    read_head()
    if not head then
      drop_base()
    end
  end
end

load()
