//go:build !linux

package testserver

import "syscall"

// dieWithParent asks for nothing where the system offers nothing.
func dieWithParent() *syscall.SysProcAttr { return nil }
