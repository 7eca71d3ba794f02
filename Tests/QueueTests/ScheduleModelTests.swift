// Thousands of random steps on the schedule, and after every few a look at all that is in Redis.

import Platform
import Queue
import Redis
import TestSupport
import Testing

@Suite("The schedule against a model")
struct ScheduleModelTests {
    @Test("random interleavings lose nothing, lease nothing twice and leave nothing behind", arguments: 1...4)
    func random(_ seed: UInt64) async throws {
        let mode: Mode = seed % 3 == 0 ? .cluster : .standalone
        let server = try await Mode.server(mode)
        try await ScheduleFixture.with(mode, on: server) { fixture in
            var model = ScheduleModel(fixture, seed: seed)
            var step = 0
            do {
                while step < 2000 {
                    try await model.step()
                    if step % 10 == 0 { try await model.check() }
                    step += 1
                }
                try await model.drain()
            } catch {
                Issue.record("seed \(seed), step \(step): \(error)")
                return
            }
            #expect(model.ended == model.rows.count && model.rows.count > 2000)
            let left = try await fixture.keys().filter { !$0.hasPrefix("b:") && $0 != "hungry" }
            #expect(left == ["epoch", "n"])
            let counts = try await fixture.redis.command("HVALS", RedisArgument(fixture.key("n"))).array
            #expect(counts?.allSatisfy { $0.int == 0 } == true)
        }
    }
}

extension ScheduleModel {
    /// Compares everything in Redis with itself and with the model.
    func check() async throws {
        let reply = try await fixture.redis.run(
            Self.inspection,
            keys: [fixture.key("")],
            arguments: [RedisArgument("\(fixture.namespace):*")]
        )
        let parts = reply.array?.map { $0.array ?? [] } ?? []
        try require(parts.count == 2, "the inspection answered \(reply)")
        let faults = parts[0].compactMap(\.string)
        try require(faults.isEmpty, faults.prefix(5).joined(separator: "; "))
        var found: [JobID: String] = [:]
        for index in stride(from: 0, to: parts[1].count - 1, by: 2) {
            guard let id = parts[1][index].string.flatMap({ JobID($0) }) else { continue }
            found[id] = parts[1][index + 1].string
        }
        try require(found.count == known.count, "Redis knows \(found.count) jobs, the model \(known.count)")
        for (id, place) in known {
            let expected =
                switch place {
                case .ready: ["r "]
                // It may have become due while the test went on.
                case .delayed: ["d ", "r "]
                case .leased(let token, _): ["l \(token)"]
                }
            try require(
                expected.contains(found[id] ?? "nothing"),
                "\(id) is \(found[id] ?? "nothing"), not \(expected)"
            )
        }
    }

    /// Lifts every rule and runs all there is.
    mutating func drain() async throws {
        rules = [:]
        try await fixture.schedule.configure(queue: fixture.queue, [:])
        for (id, row) in rows where row.due != nil && known[id] == nil { rows[id]?.due = nil }
        for _ in 0..<10_000 {
            try await makeDue(all: true)
            while try await lease(100) > 0 { try await settle(all: true) }
            try await settle(all: true)
            try await check()
            if ended == rows.count { return }
            try await feed()
        }
        throw Violation(description: "\(rows.count - ended) jobs were never run")
    }

    /// Looks at every key and says what does not fit together; then each job's state and token.
    private static let inspection = Script(
        name: "inspection",
        source: """
            local P = KEYS[1]
            local call = redis.call
            local faults, jobs = {}, {}
            local function fault(text) faults[#faults + 1] = text end
            local found = { r = 0, d = 0, l = 0 }
            local by_lane, by_window, by_org, laned = {}, {}, {}, {}
            local function add(t, k) t[k] = (t[k] or 0) + 1 end
            local function set(key)
              local t = {}
              for _, v in ipairs(call(string.sub(call('TYPE', key).ok, 1, 1) == 'z' and 'ZRANGE' or 'LRANGE', key, 0, -1)) do
                if t[v] then fault(v .. ' is twice in ' .. key) end
                t[v] = true
              end
              return t
            end
            local function number(key, field) return tonumber(call('HGET', key, field)) or 0 end
            local delayed, leased, ring, park = set(P .. 'delayed'), set(P .. 'lease'), set(P .. 'ring'), set(P .. 'park')
            local lists, lanes_of = {}, {}
            local keys = call('KEYS', ARGV[1])
            for _, key in ipairs(keys) do
              local name = string.sub(key, #P + 1)
              if string.sub(name, 1, 2) == 'r:' then lists[name] = set(key) end
              if string.sub(name, 1, 6) == 'lanes:' then lanes_of[string.sub(name, 7)] = set(key) end
            end
            for _, key in ipairs(keys) do
              local name = string.sub(key, #P + 1)
              if string.sub(name, 1, 2) == 'j:' then
                local id = string.sub(name, 3)
                local v = call('HMGET', key, 's', 'o', 'l', 'p', 't', 'g')
                jobs[#jobs + 1] = id
                jobs[#jobs + 1] = v[1] .. ' ' .. (v[5] or '')
                found[v[1]] = found[v[1]] + 1
                add(by_window, v[3] .. ' ' .. v[4])
                laned[v[3]] = v[2]
                local list = lists['r:' .. v[3] .. ':' .. v[4]]
                local places = 0
                if list and list[id] then places = places + 1; if v[1] ~= 'r' then fault(id .. ' is in a list') end end
                if delayed[id] then places = places + 1; if v[1] ~= 'd' then fault(id .. ' is in delayed') end end
                if leased[id] then
                  places = places + 1
                  add(by_lane, v[3])
                  add(by_org, v[2])
                  if v[1] ~= 'l' then fault(id .. ' is in lease') end
                end
                if places ~= 1 then fault(id .. ' is in ' .. places .. ' places, and says ' .. v[1]) end
                if (v[1] == 'l') ~= (v[5] and true or false) then fault(id .. ' has a wrong token') end
              end
            end
            local listed = 0
            for name, list in pairs(lists) do
              for id in pairs(list) do
                listed = listed + 1
                if call('EXISTS', P .. 'j:' .. id) == 0 then fault(id .. ' is listed and unknown') end
              end
            end
            local n = P .. 'n'
            if number(n, 'ready') ~= found.r or listed ~= found.r then fault('ready: ' .. number(n, 'ready') .. ' for ' .. found.r) end
            if number(n, 'delayed') ~= found.d or call('ZCARD', P .. 'delayed') ~= found.d then fault('delayed is ' .. number(n, 'delayed')) end
            if number(n, 'leased') ~= found.l or call('ZCARD', P .. 'lease') ~= found.l then fault('leased is ' .. number(n, 'leased')) end
            for lane in pairs(laned) do
              if call('EXISTS', P .. 'l:' .. lane) == 0 then fault('lane ' .. lane .. ' has no hash') end
            end
            for _, key in ipairs(keys) do
              local name = string.sub(key, #P + 1)
              local kind, who = string.sub(name, 1, 2), string.sub(name, 3)
              if kind == 'l:' then
                local v = call('HMGET', key, 's', 'o')
                local state, org = v[1] or '', v[2]
                local jobs_here, ready = 0, false
                for p = 0, 2 do
                  local c = by_window[who .. ' ' .. p] or 0
                  jobs_here = jobs_here + c
                  if number(key, 'c' .. p) ~= c then fault(name .. ' counts c' .. p .. '=' .. number(key, 'c' .. p) .. ' for ' .. c) end
                  if c > 520 then fault(name .. ' holds ' .. c) end
                  if lists['r:' .. who .. ':' .. p] then ready = true end
                end
                if number(key, 'n') ~= (by_lane[who] or 0) then fault(name .. ' runs ' .. number(key, 'n') .. ' for ' .. (by_lane[who] or 0)) end
                if not org then fault(name .. ' has no organization')
                elseif (state == 'ring') ~= (lanes_of[org] and lanes_of[org][who] or false) then fault(name .. ' is not where it says: ' .. state) end
                if (state == 'park') ~= (park['l:' .. who] or false) then fault(name .. ' parked, or not') end
                if state == '' and ready then fault(name .. ' is forgotten with ready jobs') end
                if state == '' and jobs_here == 0 then fault(name .. ' is an orphan') end
                if state == 'cap' and number(key, 'n') == 0 and call('HGET', P .. 'cfg', 'cap:l:' .. who) ~= '0' then fault(name .. ' is held by no cap') end
                if state == 'pause' and call('HGET', P .. 'cfg', 'pause:l:' .. who) == false and call('HGET', P .. 'cfg', 'rate:l:' .. who) ~= '0' then fault(name .. ' is held by no pause') end
              elseif kind == 'o:' then
                local state = call('HGET', key, 's') or ''
                if number(key, 'n') ~= (by_org[who] or 0) then fault(name .. ' runs ' .. number(key, 'n') .. ' for ' .. (by_org[who] or 0)) end
                if (state == 'ring') ~= (ring[who] or false) then fault(name .. ' is not where it says: ' .. state) end
                if (state == 'park') ~= (park['o:' .. who] or false) then fault(name .. ' parked, or not') end
                if state == '' and lanes_of[who] then fault(name .. ' is forgotten with lanes') end
                if state == '' and number(key, 'n') == 0 then fault(name .. ' is an orphan') end
                if state == 'cap' and number(key, 'n') == 0 and call('HGET', P .. 'cfg', 'cap:o:' .. who) ~= '0' then fault(name .. ' is held by no cap') end
                if state == 'pause' and call('HGET', P .. 'cfg', 'pause:o:' .. who) == false and call('HGET', P .. 'cfg', 'rate:o:' .. who) ~= '0' then fault(name .. ' is held by no pause') end
              elseif kind == 'b:' then
                if call('PTTL', key) < 0 then fault(name .. ' never goes') end
              elseif kind ~= 'j:' and kind ~= 'r:' and not string.match(name, '^lanes:')
                and not string.match('epoch cfg n ring delayed lease park hungry', name) then
                fault('a key ' .. name)
              end
            end
            for org in pairs(lanes_of) do
              if call('EXISTS', P .. 'o:' .. org) == 0 then fault('organization ' .. org .. ' has lanes and no hash') end
            end
            for org in pairs(by_org) do
              if call('EXISTS', P .. 'o:' .. org) == 0 then fault('organization ' .. org .. ' runs and has no hash') end
            end
            for org in pairs(ring) do
              if call('EXISTS', P .. 'o:' .. org) == 0 then fault('organization ' .. org .. ' is in the ring and has no hash') end
            end
            return { faults, jobs }
            """
    )
}
