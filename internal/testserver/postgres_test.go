package testserver

import "testing"

func TestPostgresKeepsItsDataOverStopAndKill(t *testing.T) {
	t.Parallel()
	s := Postgres(t)
	db := s.Database(t)
	s.Exec(t, db, "CREATE TABLE a (n int)")
	for _, end := range []func(){s.Stop, s.Kill} {
		s.Exec(t, db, "INSERT INTO a VALUES (1)")
		end()
		s.Start()
	}
	s.Exec(t, db, "DO $$ BEGIN IF (SELECT count(*) FROM a) <> 2 THEN RAISE 'lost rows'; END IF; END $$")
}
