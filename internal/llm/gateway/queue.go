package gateway

import (
	"container/heap"
	"context"
	"fmt"
	"net/http"
	"sync"

	"github.com/quickthorn/quickthorn/internal/llm/backend"
	"github.com/quickthorn/quickthorn/internal/llm/chat"
)

// Queue lets so many calls go on at once, and has so many more wait: those of a higher priority first, of the same in the order in which they came. A
// nil Queue lets all go on.
type Queue struct {
	running, waiting int // bounds
	metrics          *Metrics

	mu   sync.Mutex
	busy int
	line waiters
	next uint64
}

// NewQueue returns a queue.
func NewQueue(running, waiting int, m *Metrics) *Queue {
	return &Queue{running: running, waiting: waiting, metrics: m}
}

type waiter struct {
	priority int
	number   uint64
	turn     chan struct{} // closed when it is
	at       int           // in the heap; -1: no longer
}

// waiters is a heap.Interface.
type waiters []*waiter

func (l waiters) Len() int { return len(l) }
func (l waiters) Less(i, j int) bool {
	if l[i].priority != l[j].priority {
		return l[i].priority > l[j].priority
	}
	return l[i].number < l[j].number
}
func (l waiters) Swap(i, j int) { l[i], l[j] = l[j], l[i]; l[i].at, l[j].at = i, j }
func (l *waiters) Push(x any)   { w := x.(*waiter); w.at = len(*l); *l = append(*l, w) }
func (l *waiters) Pop() any {
	old := *l
	w := old[len(old)-1]
	old[len(old)-1], w.at = nil, -1
	*l = old[:len(old)-1]
	return w
}

// enter waits for the call's turn; leave must be called after it.
func (q *Queue) enter(ctx context.Context, priority int, h http.Header) (leave func(), err *chat.Error) {
	if q == nil {
		return func() {}, nil
	}
	q.mu.Lock()
	if q.busy < q.running {
		q.busy++
		q.mu.Unlock()
		return q.leave, nil
	}
	if len(q.line) >= q.waiting {
		q.mu.Unlock()
		h.Set("Retry-After", "2")
		return nil, &chat.Error{Status: http.StatusTooManyRequests, Type: chat.ErrorRate, Code: backend.CodeBusy, Message: fmt.Sprintf("%d calls are under way and %d wait, which is the limit", q.running, q.waiting)}
	}
	w := &waiter{priority: priority, number: q.next, turn: make(chan struct{})}
	q.next++
	heap.Push(&q.line, w)
	q.mu.Unlock()
	q.metrics.queued.Inc()
	defer q.metrics.queued.Dec()
	select {
	case <-w.turn:
		return q.leave, nil
	case <-ctx.Done():
	}
	q.mu.Lock()
	if w.at >= 0 {
		heap.Remove(&q.line, w.at)
		q.mu.Unlock()
	} else { // its turn came at the same time
		q.mu.Unlock()
		q.leave()
	}
	return nil, &chat.Error{Status: http.StatusGatewayTimeout, Type: chat.ErrorServer, Message: "the caller's time was over before the call's turn came"}
}

func (q *Queue) leave() {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.line) > 0 {
		close(heap.Pop(&q.line).(*waiter).turn)
		return
	}
	q.busy--
}
