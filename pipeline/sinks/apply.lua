#!lua name=gamemetrics
-- Applies one chunk of an epoch's increments, once.
--
-- The watermark of each partition lies in a hash beside the counters: "<next offset>:<chunks done of the epoch after
-- it>". A function runs alone and its effects are kept or lost together, so checking the watermark first and moving it
-- in the same call makes a repeated call (a lost answer, a restarted consumer, a zombie) a no-op.
--
-- KEYS[1] watermark hash   ARGV: topic:partition, from offset, next offset, chunk, chunks, payload
-- Answers {"applied"|"duplicate"|"behind", watermark, refused key ...}; "behind": chunks before this one are missing.
-- Refused keys are those of this call and of any before it that nobody has refilled yet: they are kept in a set, for the
-- answer that names one may be lost, and a repeated call is a duplicate that refuses nothing.

local function standing(hash, field)
  local mark = redis.call('HGET', hash, field)
  if not mark then return nil, 0 end
  local offset, done = string.match(mark, '^(%d+):(%d+)$')
  return tonumber(offset), tonumber(done)
end

-- A key of another type refuses its increments; the others go on, and the refused key is answered for repair. The
-- commands are called right here: a wrapper around pcall cost a twentieth of the server's time.
local function add_stats(stats, refused)
  local pcall = redis.pcall
  local keys, kinds, counts, sums, lasts = stats.k, stats.t, stats.n, stats.s, stats.l
  for i = 1, #keys do
    local key, types, increments = keys[i], kinds[i], counts[i]
    local total = pcall('HINCRBY', key, 'total_events', sums[i])
    if type(total) == 'table' then
      refused[key] = true
    else
      for j = 1, #types do
        local count = pcall('HINCRBY', key, 'event_' .. types[j], increments[j])
        if type(count) == 'table' then refused[key] = true end
      end
      local last = pcall('HGET', key, 'last_event')
      if not last or last < lasts[i] then pcall('HSET', key, 'last_event', lasts[i]) end
    end
  end
end

-- A daily or weekly board lives for a while after its period; the time to live is set when the board is made. A late
-- event of a board whose time has passed makes none: a dated board in Redis is whole or absent. One that was made, and
-- is gone before its time (the clock leapt ahead, someone deleted it), would hold nothing but what comes now: it is
-- refused, and so refilled. What was made stands in a sorted set, by when it ends, for a month after that.
-- One may also have been made and forgotten, or passed over, when boards lived for `less` seconds less than they do now.
local function add_board(key, players, scores, expire_at, refused, made, now, less)
  local pcall = redis.pcall
  local new = expire_at and redis.call('EXISTS', key) == 0
  if new then
    if expire_at <= now then return end
    if expire_at - less <= now or redis.call('ZADD', made, 'NX', expire_at, key) == 0 then
      refused[key] = true
      return
    end
  end
  for i = 1, #players do
    local score = pcall('ZINCRBY', key, scores[i], players[i])
    if type(score) == 'table' then
      refused[key] = true
      break
    end
  end
  if new then redis.call('EXPIREAT', key, expire_at) end
end

-- Of each period, how many seconds longer its boards live by this call than by the one of all since the last refill by
-- which they lived least. Those days stand beside the watermarks.
local function longer(hash, keep)
  local seconds = {}
  for period, days in pairs(keep) do
    local field = 'keep:' .. period
    local least = tonumber(redis.call('HGET', hash, field) or '')
    if not least or days < least then
      redis.call('HSET', hash, field, days)
      least = days
    end
    seconds[period] = (days - least) * 86400
  end
  return seconds
end

local function add_boards(boards, keep, refused, hash)
  local now, less, made = tonumber(redis.call('TIME')[1]), longer(hash, keep), hash .. ':boards'
  for i, game in ipairs(boards.g) do
    local prefix, players, scores = 'leaderboard:' .. game .. ':', boards.p[i], boards.s[i]
    add_board(prefix .. 'alltime', players, scores, nil, refused)
    add_board(prefix .. 'daily:' .. boards.d[i], players, scores, boards.x[i], refused, made, now, less.daily or 0)
    add_board(prefix .. 'weekly:' .. boards.w[i], players, scores, boards.y[i], refused, made, now, less.weekly or 0)
  end
end

local function answer(hash, verdict, mark)
  local words = {verdict, mark}
  for _, key in ipairs(redis.call('SMEMBERS', hash .. ':refused')) do words[#words + 1] = key end
  return words
end

local function apply(keys, args)
  local hash, field = keys[1], args[1]
  local from, next_offset, chunk, chunks = tonumber(args[2]), tonumber(args[3]), tonumber(args[4]), tonumber(args[5])
  local offset, done = standing(hash, field)
  if offset and (offset >= next_offset or (offset == from and done > chunk)) then
    return answer(hash, 'duplicate', offset .. ':' .. done)
  end
  if offset ~= from or done ~= chunk then
    return answer(hash, 'behind', offset and (offset .. ':' .. done) or '')
  end
  local mark = chunk + 1 == chunks and (args[3] .. ':0') or (args[2] .. ':' .. (chunk + 1))
  local refused, deltas = {}, cjson.decode(args[6])
  -- If somebody wrote another type under these names, the call fails here: later it would leave out what comes after,
  -- for what a function did stays done, and the mark says that it did all.
  redis.call('SMEMBERS', hash .. ':refused')
  redis.call('ZREMRANGEBYSCORE', hash .. ':boards', '-inf', tonumber(redis.call('TIME')[1]) - 30 * 86400)
  redis.call('HSET', hash, field, mark)
  if deltas.stats then add_stats(deltas.stats, refused) end
  if deltas.boards then add_boards(deltas.boards, deltas.keep or {}, refused, hash) end -- none: of an older version
  for key in pairs(refused) do redis.call('SADD', hash .. ':refused', key) end
  return answer(hash, 'applied', mark)
end

redis.register_function('gamemetrics_apply', apply)

-- Names what the account may not do of all that is done here and by a refill, so that a missing right is told at the
-- start and not by the first event that needs it.
-- KEYS[1] watermark hash   ARGV: a player's key, a board's key, and what that is called while it is filled
local function lacks(keys, args)
  local hash, refused, made = keys[1], keys[1] .. ':refused', keys[1] .. ':boards'
  local player, board, beside = args[1], args[2], args[3]
  local wanted = {
    {'HGET', hash, 'f'}, {'HSET', hash, 'f', '1'}, {'HSETNX', hash, 'f', '1'}, {'HGETALL', hash}, {'HMGET', hash, 'f'},
    {'DEL', hash, refused, made}, {'WATCH', hash}, {'UNWATCH'}, {'MULTI'}, {'EXEC'},
    {'SADD', refused, 'k'}, {'SMEMBERS', refused}, {'SREM', refused, 'k'},
    {'HINCRBY', player, 'f', '1'}, {'HGET', player, 'f'}, {'HSET', player, 'f', '1'}, {'UNLINK', player},
    {'ZINCRBY', board, '1', 'm'}, {'EXISTS', board}, {'EXPIREAT', board, '1'}, {'UNLINK', board}, {'SCAN', '0'},
    {'TIME'}, {'ZADD', made, '1', 'm'}, {'ZREMRANGEBYSCORE', made, '0', '1'},
    {'ZADD', beside, '1', 'm'}, {'RENAME', beside, board}, {'UNLINK', beside},
  }
  local lacking, named = {}, {}
  for _, command in ipairs(wanted) do
    local name = command[1] .. (command[2] and ' ' .. command[2] or '')
    if not redis.acl_check_cmd(unpack(command)) and not named[name] then
      named[name] = true
      lacking[#lacking + 1] = name
    end
  end
  return lacking
end

redis.register_function('gamemetrics_lacks', lacks)
