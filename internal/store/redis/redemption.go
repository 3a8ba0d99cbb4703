package redis

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"github.com/quickthorn/quickthorn/internal/defense"
	"github.com/quickthorn/quickthorn/internal/redisconn"
)

// Redeem notes a redemption under a key of its own, which the server forgets after keep. Of several at once, the server makes one the first.
func (s *State) Redeem(ctx context.Context, r defense.Redemption, keep time.Duration) (first defense.Redemption, known bool, err error) {
	ctx, cancel := s.limit(ctx)
	defer cancel()
	key := s.key("redeemed:" + r.Ticket.String())
	value := fmt.Sprintf("%s %d %d", r.Visitor, r.At.Unix(), r.Share)
	for range 2 { // the key may run out between the two commands
		ok, err := s.client.SetNX(ctx, key, value, keep).Result()
		if err != nil {
			return first, false, fmt.Errorf("noting a redemption: %w", redisconn.Explain(err))
		}
		if ok {
			return r, false, nil
		}
		said, err := s.client.Get(ctx, key).Result()
		if errors.Is(err, goredis.Nil) {
			continue
		}
		if err != nil {
			return first, false, fmt.Errorf("reading a redemption: %w", redisconn.Explain(err))
		}
		if first, err = parseRedemption(r.Ticket, said); err != nil {
			return first, false, fmt.Errorf("reading a redemption: %w", err)
		}
		return first, true, nil
	}
	return first, false, errors.New("noting a redemption: it runs out as soon as it is noted")
}

func parseRedemption(ticket defense.TokenID, said string) (r defense.Redemption, err error) {
	fields := strings.Fields(said)
	if len(fields) != 3 {
		return r, fmt.Errorf("%q is none", said)
	}
	visitor, err := defense.ParseTokenID(fields[0])
	at, err2 := strconv.ParseInt(fields[1], 10, 64)
	share, err3 := strconv.ParseUint(fields[2], 10, 8)
	if err := errors.Join(err, err2, err3); err != nil {
		return r, err
	}
	return defense.Redemption{Ticket: ticket, Visitor: visitor, At: time.Unix(at, 0), Share: uint8(share)}, nil
}
