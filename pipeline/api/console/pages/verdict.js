// The state of everything in one sentence. Pure: from an overview to {state, headline, more}.
import { counted, duration, rate, sentence } from "./format.js";

const FULL = { down: 2, degraded: 1, ok: 0 };

export function verdict(overview) {
  const worst = parts(overview).sort((a, b) => FULL[b.state] - FULL[a.state])[0];
  const { proof, edge } = overview;
  if (worst.state === "down") return { state: "down", headline: `${worst.name} is down`, more: sentence(worst.reason) };
  if (proof?.differences > 0) {
    const more = "“gamemetrics verify” names every row and key that differs.";
    return { state: "down", headline: `The proof found ${counted(proof.differences, "difference")}`, more };
  }
  if (worst.state === "degraded") return { state: "degraded", headline: `${worst.name} is not as it should be`, more: sentence(worst.reason) };
  // What nobody has proven, or not yet all of, is not said to be well.
  const [state, headline] = proof && proof.state === "ok" ? ["ok", "All is well"] : ["unknown", "Nothing is amiss, but not everything is proven yet"];
  if (edge.accepted_per_second > 0) {
    const fresh = freshest(overview);
    const waits = fresh ? `; the oldest that is not readable yet came ${duration(fresh)} ago` : "";
    return { state, headline, more: `${rate(edge.accepted_per_second)} events/s come in${waits}.` };
  }
  return { state, headline: state === "ok" ? `${headline}, and quiet` : headline, more: "Nothing comes in at this moment." };
}

function parts({ edge, kafka, groups, postgres, redis, proof }) {
  const consumers = groups.map((group) => ({ ...group, name: groups.length > 1 ? `The consumer ${group.group}` : "The consumer" }));
  const none = { name: "The consumer", state: "degraded", reason: "none has counted anything here yet; start “gamemetrics consume”" };
  return [
    { name: "Kafka", ...kafka },
    { name: "PostgreSQL", ...postgres },
    { name: "Redis", ...redis },
    ...(groups.length ? consumers : [none]),
    { name: "The HTTP API", ...edge },
    ...(proof?.state === "degraded" ? [{ name: "The proof", ...proof }] : []),
  ].filter((part) => part.state in FULL);
}

function freshest({ groups }) {
  return groups.reduce((most, { freshness_seconds: one }) => (one == null ? most : Math.max(most ?? 0, one)), null);
}
