// Package redis keeps the state of several processes in a Redis server or one that speaks its protocol, such as
// Valkey: decisions, settings, the queue of events, the bell and the leases of store.State. It needs version 6.2 or later.
//
// The server may be a single one, watched by Sentinel, or a Cluster; every key of a [State] carries the same hash tag, so
// that they lie on one node. What is acknowledged is as durable as the server makes it: set "appendonly yes" and "appendfsync always" where
// a power cut must lose nothing ("everysec" loses up to a second), "min-replicas-to-write 1" where a failover must not, and
// "maxmemory-policy noeviction" always, since evicting a key would lose decisions or events unnoticed.
//
// A user of the server needs no more than this, here for the prefix "quickthorn:":
//
//	ACL SETUSER quickthorn on >PASSWORD ~quickthorn:* &quickthorn:* +ping +select +eval +evalsha +get +set +del +pexpire
//	    +hget +hmget +hset +hdel +hincrby +hexists +zadd +zrangebylex +zremrangebylex +xadd +xdel +xlen +xrange +xrevrange +xread
//	    +multi +exec +publish +subscribe +unsubscribe
//
// In a Cluster it needs these as well:
//
//	+command +cluster|slots +cluster|shards +readonly
//
// A user of the Sentinels needs no more than this:
//
//	ACL SETUSER quickthorn on >PASSWORD &* +ping +subscribe +unsubscribe +sentinel|get-master-addr-by-name +sentinel|sentinels
package redis
