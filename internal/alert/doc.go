// Package alert tells the owner what they ought to know, by e-mail, webhook, Slack or a program of their own.
//
// What happens is raised as an [Alert]; what is sent is a [Message]. Between the two a [Dispatcher]
// chooses channels by rules, holds alerts back in quiet hours, and groups them: a siege that raises
// ten thousand alerts is one message with numbers, not ten thousand messages.
//
//   - The first alert of a kind and site waits for GroupWait, so that its companions come with it.
//   - After a message, the next one of the same kind and site comes after GroupInterval at the earliest,
//     with what has been added since; one that is more severe than all before waits for GroupWait only.
//   - Beyond MessagesPerHour to one channel everything goes into a single message at the end of the hour.
//   - In quiet hours alerts are held; at the end there is one digest.
//
// Raising takes no I/O and no memory that grows with the number of alerts, and may be done
// from anywhere.
//
// Alerts are best effort. They live in memory: a clean stop sends what has been
// gathered (quiet hours or not: an alert that would be lost is worse than one at night), a crash loses it. What an alert speaks of (cases,
// decisions, events) is kept elsewhere. A message may arrive twice when its receipt was not confirmed; it then has the same id.
//
// Titles and texts may hold what strangers wrote (paths, agents). They are made plain when they are raised:
// no control characters, none that turn the direction of writing, bounded lengths.
package alert
