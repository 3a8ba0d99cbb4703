package simulate

import (
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
)

// addresses hands out clients' addresses, each once. Readers and campaigns come from the same consumer networks: a campaign that rents
// people's connections has readers for neighbours.
type addresses struct {
	rng  *rand.Rand
	v4   []uint16 // networks of /16
	v6   []uint32 // networks of /32
	used map[netip.Addr]bool
}

// consumer are first octets below which providers have their customers; none is reserved.
var consumer = [...]byte{24, 46, 62, 71, 77, 78, 79, 80, 82, 84, 85, 86, 87, 88, 89, 90, 91, 92, 93, 94, 95, 98, 109, 151, 176, 178, 188, 201, 212, 213, 217}

func newAddresses(rng *rand.Rand) *addresses {
	a := &addresses{rng: rng, used: map[netip.Addr]bool{}}
	for range 60 {
		a.v4 = append(a.v4, uint16(consumer[rng.IntN(len(consumer))])<<8|uint16(rng.IntN(256)))
	}
	for range 20 {
		a.v6 = append(a.v6, 0x2a020000|uint32(rng.IntN(0x10000)))
	}
	return a
}

// home returns a customer's address, an IPv6 one with that probability.
func (a *addresses) home(ipv6 float64) netip.Addr {
	if a.rng.Float64() < ipv6 {
		return a.unique(func() netip.Addr {
			var b [16]byte
			binary.BigEndian.PutUint32(b[:], a.v6[a.rng.IntN(len(a.v6))])
			binary.BigEndian.PutUint32(b[4:], a.rng.Uint32())
			binary.BigEndian.PutUint64(b[8:], a.rng.Uint64())
			return netip.AddrFrom16(b)
		})
	}
	return a.unique(func() netip.Addr {
		var b [4]byte
		binary.BigEndian.PutUint16(b[:], a.v4[a.rng.IntN(len(a.v4))])
		b[2], b[3] = byte(a.rng.IntN(256)), byte(1+a.rng.IntN(254))
		return netip.AddrFrom4(b)
	})
}

// within returns an address of a data centre's or crawler's IPv4 network.
func (a *addresses) within(network string) netip.Addr {
	p := netip.MustParsePrefix(network)
	base := p.Addr().As4()
	size := 1 << (32 - p.Bits())
	return a.unique(func() netip.Addr {
		b := base
		binary.BigEndian.PutUint32(b[:], binary.BigEndian.Uint32(base[:])+uint32(a.rng.IntN(size)))
		return netip.AddrFrom4(b)
	})
}

// unique draws until the address is new. A network that is nearly used up gives an old one after a while.
func (a *addresses) unique(draw func() netip.Addr) netip.Addr {
	addr := draw()
	for tries := 0; a.used[addr] && tries < 1000; tries++ {
		addr = draw()
	}
	a.used[addr] = true
	return addr
}
