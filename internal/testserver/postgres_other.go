//go:build !linux

package testserver

import "syscall"

// asOwner asks for nothing where the system offers nothing; root's tests then fail.
func asOwner(*owner) *syscall.SysProcAttr { return nil }
