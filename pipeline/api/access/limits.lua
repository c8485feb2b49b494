-- Takes events and bytes from a key's two buckets, or neither: GCRA, as in bucket.py, on Valkey's own clock.
-- KEYS[1]: a hash with the times at which the buckets are full again, and the time at which they were written. What lies
-- between is what was owed: where the clock has gone back since then, as much is owed from now on, and not until a time
-- that a wrong clock named (a reading two days ahead would keep the key out for two days).
-- ARGV: for events, then for bytes: rate per second (0: no limit), burst, what is needed now, what is wanted if it is there.
-- Returns whether it passes, the events and bytes granted, milliseconds to wait, and the events left.
local clock = redis.call('TIME')
local now = tonumber(clock[1]) + tonumber(clock[2]) / 1000000
local stored = redis.call('HMGET', KEYS[1], 'events', 'bytes', 'at')
local back = math.max(0, (tonumber(stored[3] or 0) or 0) - now)
local wait, grant, full, left = 0, {}, {}, 0
for i = 0, 1 do
  local rate, burst = tonumber(ARGV[i * 4 + 1]), tonumber(ARGV[i * 4 + 2])
  local need, want = tonumber(ARGV[i * 4 + 3]), tonumber(ARGV[i * 4 + 4])
  grant[i] = want
  full[i] = math.max((tonumber(stored[i + 1] or 0) or 0) - back, now)
  if rate > 0 then
    local available = burst - (full[i] - now) * rate
    wait = math.max(wait, (math.min(need, burst) - available) / rate)
    grant[i] = math.floor(math.max(need, math.min(want, available)))
    if i == 0 then left = available end
  end
end
-- A hair's breadth of rounding must not cost a client a second's wait.
if wait > 0.0000005 then return {0, 0, 0, math.ceil(wait * 1000), math.floor(left)} end
local ttl = 1
for i = 0, 1 do
  local rate = tonumber(ARGV[i * 4 + 1])
  if rate > 0 then
    full[i] = full[i] + grant[i] / rate
    ttl = math.max(ttl, math.ceil(full[i] - now) + 1)
  end
end
local written = {string.format('%.6f', full[0]), string.format('%.6f', full[1]), string.format('%.6f', now)}
redis.call('HSET', KEYS[1], 'events', written[1], 'bytes', written[2], 'at', written[3])
redis.call('EXPIRE', KEYS[1], ttl)
return {1, grant[0], grant[1], 0, math.floor(left - grant[0])}
