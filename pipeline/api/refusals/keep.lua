-- Adds refusals to the lists of their holders, and bounds all of it: each list, how many there are, and for how long.
-- KEYS[1]: the index of holders, by when they were last refused something.
-- ARGV: seconds to keep, most of a list, most holders, and what the lists' names begin with (contract/refusals.py);
-- then for each holder its name and games, how many refusals follow, and these, the oldest first.
local ttl, most, holders, prefix = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3]), ARGV[4]
local now = tonumber(redis.call('TIME')[1])
local at = 5
while at < #ARGV do
  local holder, last = ARGV[at], at + 1 + tonumber(ARGV[at + 1])
  local list = prefix .. redis.sha1hex(holder)
  for index = at + 2, last do redis.call('LPUSH', list, ARGV[index]) end
  redis.call('LTRIM', list, 0, most - 1)
  redis.call('EXPIRE', list, ttl)
  redis.call('ZADD', KEYS[1], now, holder)
  at = last + 1
end
for _, holder in ipairs(redis.call('ZRANGE', KEYS[1], 0, -(holders + 1))) do
  redis.call('UNLINK', prefix .. redis.sha1hex(holder))
  redis.call('ZREM', KEYS[1], holder)
end
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now - ttl)
redis.call('EXPIRE', KEYS[1], ttl)
