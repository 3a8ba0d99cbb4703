//go:build services && !linux

package services

import "syscall"

// dieWithParent has a program end with the test where the system can; elsewhere Cleanup ends it.
func dieWithParent() *syscall.SysProcAttr { return nil }
