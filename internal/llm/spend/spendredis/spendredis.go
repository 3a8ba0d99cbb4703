// Package spendredis keeps in Redis what callers of language models have used.
package spendredis

import (
	"context"
	"fmt"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"github.com/quickthorn/quickthorn/internal/llm/price"
	"github.com/quickthorn/quickthorn/internal/llm/spend"
	"github.com/quickthorn/quickthorn/internal/redisconn"
)

// Store is a spend.Store in Redis. It is safe for concurrent use, as are several in different processes.
type Store struct {
	client  goredis.UniversalClient
	prefix  string
	timeout time.Duration
	script  *goredis.Script
}

var _ spend.Store = (*Store)(nil)

// Open returns a store that uses a server. It does not connect yet: while the server is away calls fail, and they succeed once it is back. The error
// says what is wrong with the options. Close it when done.
func Open(o redisconn.Options) (*Store, error) {
	if err := o.Check(); err != nil {
		return nil, err
	}
	return &Store{client: redisconn.New(o), prefix: o.Prefix, timeout: o.Timeout, script: goredis.NewScript(spendScript)}, nil
}

// Close closes the connections. What is under way fails.
func (s *Store) Close() error { return s.client.Close() }

// key is that of an account's day.
func (s *Store) key(account string, d spend.Date) string {
	return s.prefix + "{spend}:" + d.String() + ":" + account
}

// spendScript keeps the books of an account's day in a hash: "n", "t" and "c" are the calls, the tokens and the cost that were used; "l:ID" is a
// reservation, as "until mostCalls mostTokens mostCost usedCalls usedTokens usedCost"; "d:ID" is a call that was settled, with when that may be forgotten.
// Times are the server's, in milliseconds. Amounts stay below 2^53, which its numbers hold exactly.
//
// KEYS day; ARGV what (reserve, note, settle, sums), id, calls, tokens, cost, then for reserve the limits (0: none) and for settle what was noted; the
// hold and the life of the day in milliseconds at the end. It answers ok, what was used and what is reserved.
const spendScript = `
local what, id, hold, life = ARGV[1], ARGV[2], tonumber(ARGV[9]), ARGV[10]
local given, other = {}, {}
for i = 1, 3 do given[i], other[i] = tonumber(ARGV[2 + i]), tonumber(ARGV[5 + i]) end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local function text(n) return string.format('%.0f', n) end
local used, reserved, lease, done, gone = {0, 0, 0}, {0, 0, 0}, nil, false, {}
local names = {n = 1, t = 2, c = 3}
local all = redis.call('HGETALL', KEYS[1])
for i = 1, #all, 2 do
  local f, v = all[i], all[i + 1]
  if names[f] then used[names[f]] = used[names[f]] + tonumber(v)
  elseif string.sub(f, 1, 2) == 'd:' then
    if tonumber(v) <= now then gone[#gone + 1] = f elseif f == 'd:' .. id then done = true end
  else
    local l = {}
    for n in string.gmatch(v, '%d+') do l[#l + 1] = tonumber(n) end
    if l[1] <= now then
      for j = 1, 3 do used[j] = used[j] + l[4 + j] end
      gone[#gone + 1] = f
    elseif f == 'l:' .. id then lease = l
    else for j = 1, 3 do reserved[j] = reserved[j] + math.max(l[1 + j], l[4 + j]) end end
  end
end
local ok = 1
local function answer()
  return {ok, text(used[1]), text(used[2]), text(used[3]), text(reserved[1]), text(reserved[2]), text(reserved[3])}
end
if what == 'sums' then return answer() end
if what == 'reserve' then
  for j = 1, 3 do if other[j] > 0 and used[j] + reserved[j] + given[j] > other[j] then ok = 0 end end
  if ok == 1 then for j = 1, 3 do reserved[j] = reserved[j] + given[j] end end
elseif what == 'settle' and not done then
  for j = 1, 3 do
    if lease then used[j] = used[j] + given[j] else used[j] = used[j] + math.max(given[j] - other[j], 0) end
  end
end
redis.call('HSET', KEYS[1], 'n', text(used[1]), 't', text(used[2]), 'c', text(used[3]))
if #gone > 0 then redis.call('HDEL', KEYS[1], unpack(gone, 1, math.min(#gone, 1000))) end
local function join(t) return text(t[1]) .. ' ' .. text(t[2]) .. ' ' .. text(t[3]) end
if what == 'reserve' then
  if ok == 1 then redis.call('HSET', KEYS[1], 'l:' .. id, text(now + hold) .. ' ' .. join(given) .. ' 0 0 0')
  else redis.call('HDEL', KEYS[1], 'l:' .. id) end
elseif what == 'note' and lease then
  redis.call('HSET', KEYS[1], 'l:' .. id, text(now + hold) .. ' ' .. join({lease[2], lease[3], lease[4]}) .. ' ' .. join(given))
elseif what == 'settle' then
  redis.call('HDEL', KEYS[1], 'l:' .. id)
  redis.call('HSET', KEYS[1], 'd:' .. id, text(now + hold))
end
redis.call('PEXPIRE', KEYS[1], life)
return answer()
`

// book runs the script.
func (s *Store) book(ctx context.Context, doing string, account string, d spend.Date, id string, given, other spend.Amount) (sums spend.Sums, ok bool, err error) {
	if account == "" || len(account) > spend.MaxAccount {
		return sums, false, fmt.Errorf("an account whose name has %d bytes: 1 to %d", len(account), spend.MaxAccount)
	}
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	out, err := s.script.Run(ctx, s.client, []string{s.key(account, d)}, doing, id,
		given.Calls, given.Tokens, int64(given.Cost), other.Calls, other.Tokens, int64(other.Cost), spend.Hold.Milliseconds(), (spend.Keep * 24 * time.Hour).Milliseconds()).Slice()
	if err != nil {
		return sums, false, fmt.Errorf("the books of what callers have used: %w", redisconn.Explain(err))
	}
	var n [7]int64
	if len(out) != len(n) {
		return sums, false, fmt.Errorf("the books of what callers have used: %d answers", len(out))
	}
	for i := range n {
		if _, err := fmt.Sscan(fmt.Sprint(out[i]), &n[i]); err != nil {
			return sums, false, fmt.Errorf("the books of what callers have used: %w", err)
		}
	}
	amount := func(n []int64) spend.Amount {
		return spend.Amount{Calls: n[0], Tokens: n[1], Cost: price.Money(n[2])}
	}
	return spend.Sums{Used: amount(n[1:4]), Reserved: amount(n[4:7])}, n[0] == 1, nil
}

// Reserve implements spend.Store.
func (s *Store) Reserve(ctx context.Context, e spend.Entry, most spend.Amount, limit spend.Limit) (spend.Sums, bool, error) {
	return s.book(ctx, "reserve", e.Account, e.Date, e.ID, most, spend.Amount(limit))
}

// Note implements spend.Store.
func (s *Store) Note(ctx context.Context, e spend.Entry, used spend.Amount) error {
	_, _, err := s.book(ctx, "note", e.Account, e.Date, e.ID, used, spend.Amount{})
	return err
}

// Settle implements spend.Store.
func (s *Store) Settle(ctx context.Context, e spend.Entry, used, noted spend.Amount) error {
	_, _, err := s.book(ctx, "settle", e.Account, e.Date, e.ID, used, noted)
	return err
}

// Sums implements spend.Store.
func (s *Store) Sums(ctx context.Context, account string, d spend.Date) (spend.Sums, error) {
	sums, _, err := s.book(ctx, "sums", account, d, "", spend.Amount{}, spend.Amount{})
	return sums, err
}
