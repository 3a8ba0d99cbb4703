//go:build !unix

package drip

import (
	"errors"
	"net"
	"syscall"
)

// Elsewhere every write is one that may wait, and that a client has gone is only seen when it fails.

func socketOf(net.Conn) (raw syscall.RawConn, direct bool) { return nil, false }

type socket struct{}

func (socket) exchange(syscall.RawConn, []byte) (int, error) { return 0, errors.ErrUnsupported }

func limitBuffers(net.Conn) {}
