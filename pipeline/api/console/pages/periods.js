// The periods of boards, in words. Their names are those of pipeline/contract/boards.py, to which a test holds these;
// which boards a period has, their names, their days and their keys, the API tells.

/** `title` and `of` name it; of one that ends, `choose` asks for which, and `now` is the one under way. */
export const PERIODS = {
  alltime: { title: "All time", of: "all time" },
  daily: { title: "Day", of: "day", choose: "Day (UTC)", now: "today" },
  weekly: { title: "Week", of: "week", choose: "Week (Monday to Sunday, UTC)", now: "this week" },
};

/** The one that the API shows if none is asked for. */
export const [FIRST] = Object.keys(PERIODS);
