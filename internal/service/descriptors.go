package service

// spareDescriptors are those that connections to clients must leave: for files, stores and upstreams.
const spareDescriptors = 512

// Descriptors returns how many connections of the wanted there may be by the system's limit of open files, and says so if they are fewer.
func (s *Service) Descriptors(wanted int) int {
	limit := openFiles()
	if limit <= 0 {
		return wanted
	}
	most := max(limit-spareDescriptors, limit/2)
	if most >= wanted {
		return wanted
	}
	s.Log.Warn("the limit of open files is lower than what the configuration allows: fewer clients are taken into the tarpit", "limit", limit, "wanted", wanted, "taken", most)
	return most
}
