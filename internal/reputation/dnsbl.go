package reputation

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/sony/gobreaker/v2"

	"github.com/quickthorn/quickthorn/internal/telemetry"
)

// Resolver looks names up; *net.Resolver is one.
type Resolver interface {
	LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error)
}

// ZoneOptions describe a DNS blocklist (RFC 5782).
type ZoneOptions struct {
	Name string // "" for the zone itself
	Zone string // "bl.example.org"
	IPv6 bool   // the zone has IPv6 entries; without it, IPv6 clients are not asked about
	// Score is how likely a listed client is unwanted automation, 0..1; 0: 0.7. Such lists are about mail.
	Score float64
	// Ignore are answers that are no reproach. nil: 127.0.0.10 and 127.0.0.11, by which Spamhaus marks addresses of households,
	// who are asked not to send mail directly, which readers do not.
	Ignore []netip.Addr
	// Resolver is asked; nil: the system's, by Go's own client. The big public resolvers are refused by most lists.
	Resolver    Resolver
	Timeout     time.Duration // of one look-up; 0: 2 s
	TTL         time.Duration // how long a listing is remembered; 0: 1 h
	NegativeTTL time.Duration // how long it is remembered that there is none; 0: 15 min
	CacheSize   int           // clients remembered; 0: 16,384 (about 4 MB)
	PerMinute   int           // look-ups; 0: 120
	MaxInFlight int           // look-ups at once; 0: 8
}

// How often a zone is checked for being in its right mind, and how soon again after it was not.
const (
	zoneCheck = time.Hour
	zoneRetry = 5 * time.Minute
)

// zone asks one DNS blocklist.
type zone struct {
	o       ZoneOptions
	now     func() time.Time
	cache   *cache
	budget  budget
	slots   chan struct{}
	breaker *gobreaker.CircuitBreaker[[]netip.Addr]
	state   *telemetry.State

	checking chan struct{} // holds one token while the fields below are used; a channel, so that waiting ends with the context
	checked  time.Time
	insane   error // what the last check found
}

func newZone(o ZoneOptions, now func() time.Time, log *slog.Logger) (*zone, error) {
	o.Zone = strings.Trim(o.Zone, ".")
	// An IPv6 client's name takes 64 characters before the zone's; a name has 253 at most.
	if o.Zone == "" || len(o.Zone) > 180 || strings.Trim(strings.ToLower(o.Zone), "abcdefghijklmnopqrstuvwxyz0123456789-_.") != "" || strings.Contains(o.Zone, "..") {
		return nil, fmt.Errorf("zone: %q is not a domain name such as bl.example.org", o.Zone)
	}
	if o.Name == "" {
		o.Name = o.Zone
		if len(o.Name) > 64 {
			return nil, errors.New("name: it is missing, and the zone is too long to stand for it")
		}
	}
	var err error
	if o.Score, err = score(o.Score, 0.7); err != nil {
		return nil, err
	}
	if o.Ignore == nil {
		o.Ignore = []netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 10}), netip.AddrFrom4([4]byte{127, 0, 0, 11})}
	}
	if o.Resolver == nil {
		o.Resolver = &net.Resolver{PreferGo: true}
	}
	if err := positive(
		field{"timeout", &o.Timeout, 2 * time.Second}, field{"ttl", &o.TTL, time.Hour}, field{"negativeTTL", &o.NegativeTTL, 15 * time.Minute},
	); err != nil {
		return nil, err
	}
	if err := counts(count{"cacheSize", &o.CacheSize, 16 << 10}, count{"perMinute", &o.PerMinute, 120}, count{"maxInFlight", &o.MaxInFlight, 8}); err != nil {
		return nil, err
	}
	return &zone{
		o: o, now: now, cache: newCache(o.CacheSize),
		budget:   budget{limit: o.PerMinute, period: time.Minute},
		slots:    make(chan struct{}, o.MaxInFlight),
		checking: make(chan struct{}, 1),
		breaker: gobreaker.NewCircuitBreaker[[]netip.Addr](gobreaker.Settings{
			Name: o.Name, Timeout: time.Minute,
			// Neither is the zone's fault.
			IsExcluded: func(err error) bool { return errors.Is(err, context.Canceled) || errors.Is(err, ErrSpent) },
		}),
		state: telemetry.NewState(log.With("zone", o.Zone), "a DNS blocklist has no opinion", "the DNS blocklist has an opinion again", now),
	}, nil
}

type field struct {
	name      string
	value     *time.Duration
	otherwise time.Duration
}

// positive puts defaults for what is 0 and refuses what is negative.
func positive(fs ...field) error {
	for _, f := range fs {
		switch {
		case *f.value < 0:
			return fmt.Errorf("%s: %s is negative", f.name, *f.value)
		case *f.value == 0:
			*f.value = f.otherwise
		}
	}
	return nil
}

type count struct {
	name      string
	value     *int
	otherwise int
}

func counts(cs ...count) error {
	for _, c := range cs {
		switch {
		case *c.value < 0:
			return fmt.Errorf("%s: %d is negative", c.name, *c.value)
		case *c.value == 0:
			*c.value = c.otherwise
		}
	}
	return nil
}

// Name implements Source.
func (z *zone) Name() string { return z.o.Name }

// Check implements Source.
func (z *zone) Check(ctx context.Context, client netip.Prefix) (Finding, error) {
	a := client.Addr()
	if a.Is6() && !z.o.IPv6 {
		return Finding{}, nil
	}
	if f, ok := z.cache.get(client, z.now()); ok {
		return f, nil
	}
	if err := z.sane(ctx); err != nil {
		return Finding{}, err
	}
	answers, err := z.ask(ctx, a)
	if !errors.Is(err, ErrSpent) && ctx.Err() == nil {
		z.state.Report(err)
	}
	if err != nil {
		return Finding{}, err
	}
	f, err := z.read(answers)
	if err != nil {
		z.state.Report(err)
		return Finding{}, err
	}
	ttl := z.o.NegativeTTL
	if f.Listed {
		ttl = z.o.TTL
	}
	z.cache.put(client, f, z.now().Add(ttl))
	return f, nil
}

// read tells what the answers mean: 127.0.0.0/8 lists, of which 127.255.255.0/24 says that the question was not
// allowed, as from a public resolver. Anything else comes from somebody who answers for names that do not exist.
func (z *zone) read(answers []netip.Addr) (Finding, error) {
	f := Finding{}
	for _, a := range answers {
		if a = a.Unmap(); !a.Is4() {
			continue
		}
		b := a.As4()
		switch {
		case b[0] != 127:
			return Finding{}, fmt.Errorf("the zone answers with %s, which is not an answer of a blocklist: has the domain been sold, or does the resolver make up answers?", a)
		case b[1] == 255 && b[2] == 255:
			return Finding{}, fmt.Errorf("the zone refuses to answer (%s): it may not be asked through this resolver, or not that often", a)
		case slices.Contains(z.o.Ignore, a):
		default:
			f = Finding{Listed: true, Score: z.o.Score, Detail: a.String()}
		}
	}
	return f, nil
}

// sane asks the zone now and then about the two addresses that RFC 5782, section 5, keeps for it: 127.0.0.2 is listed,
// 127.0.0.1 is not. A zone that was given up often lists everybody, so that nobody goes on asking.
func (z *zone) sane(ctx context.Context) error {
	select {
	case z.checking <- struct{}{}:
		defer func() { <-z.checking }()
	case <-ctx.Done():
		return ctx.Err()
	}
	age := z.now().Sub(z.checked)
	if !z.checked.IsZero() && age >= 0 && (z.insane == nil && age < zoneCheck || age < zoneRetry) {
		return z.insane
	}
	err := z.probe(ctx)
	if errors.Is(err, ErrSpent) || ctx.Err() != nil {
		return err // says nothing about the zone
	}
	z.checked, z.insane = z.now(), err
	z.state.Report(err)
	return err
}

func (z *zone) probe(ctx context.Context) error {
	for _, t := range [...]struct {
		last   byte
		listed bool
	}{{1, false}, {2, true}} {
		a := netip.AddrFrom4([4]byte{127, 0, 0, t.last})
		answers, err := z.ask(ctx, a)
		if err != nil {
			return err
		}
		if _, err := z.read(answers); err != nil {
			return err
		}
		if listed := len(answers) > 0; listed && !t.listed {
			return errors.New("the zone lists 127.0.0.1, and so everybody: it seems to have been given up")
		} else if !listed && t.listed {
			return errors.New("the zone does not list 127.0.0.2, as every blocklist does: is its name right?")
		}
	}
	return nil
}

// ask looks one address up; no answers mean that it is not listed.
func (z *zone) ask(ctx context.Context, a netip.Addr) ([]netip.Addr, error) {
	ctx, cancel := context.WithTimeout(ctx, z.o.Timeout)
	defer cancel()
	select {
	case z.slots <- struct{}{}:
		defer func() { <-z.slots }()
	case <-ctx.Done():
		return nil, fmt.Errorf("waiting for other look-ups: %w", ctx.Err())
	}
	return z.breaker.Execute(func() ([]netip.Addr, error) {
		if !z.budget.take(z.now()) {
			return nil, fmt.Errorf("%d look-ups a minute: %w", z.o.PerMinute, ErrSpent)
		}
		answers, err := z.o.Resolver.LookupNetIP(ctx, "ip4", reversed(a)+"."+z.o.Zone+".")
		var dns *net.DNSError
		if errors.As(err, &dns) && dns.IsNotFound {
			return nil, nil
		}
		return answers, err
	})
}

// reversed is the part of the name asked for that stands for the address.
func reversed(a netip.Addr) string {
	var b strings.Builder
	if a.Is4() {
		octets := a.As4()
		for i := 3; i >= 0; i-- {
			b.WriteString(strconv.Itoa(int(octets[i])))
			if i > 0 {
				b.WriteByte('.')
			}
		}
		return b.String()
	}
	const hex = "0123456789abcdef"
	octets := a.As16()
	for i := 15; i >= 0; i-- {
		b.WriteByte(hex[octets[i]&15])
		b.WriteByte('.')
		b.WriteByte(hex[octets[i]>>4])
		if i > 0 {
			b.WriteByte('.')
		}
	}
	return b.String()
}
