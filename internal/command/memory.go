package command

import (
	"log/slog"
	"runtime/debug"
	"slices"
	"strings"

	"github.com/KimMachineGun/automemlimit/memlimit"
)

// memoryShare is how much of a container's memory Go's own may take: the rest is for files mapped and for the kernel's buffers.
const memoryShare = 0.9

// LimitMemory lets the garbage collector know of the container's limit, or the service's, so that it works harder near
// it instead of being killed at it. A GOMEMLIMIT of the owner's goes before; 0 bytes means that there is no limit.
func LimitMemory(env *Environment, log *slog.Logger) (bytes int64) {
	if slices.ContainsFunc(env.Environ, func(v string) bool { return strings.HasPrefix(v, "GOMEMLIMIT=") }) {
		return 0
	}
	limit, err := memlimit.FromCgroup()
	if err != nil { // no control group, or none with a limit: there is nothing to keep to
		log.Debug("memory is not limited", "reason", err)
		return 0
	}
	bytes = int64(float64(limit) * memoryShare)
	debug.SetMemoryLimit(bytes)
	log.Info("the garbage collector keeps to a limit", "bytes", bytes)
	return bytes
}
