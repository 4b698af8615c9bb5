"""The words by which replies state, deny, suppose and hedge a choice, in Chinese and English, as regular expressions.

`letters.py` says how they are used. Text has been through `plain_text`: half-width letters and punctuation, no markup.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator

from harness.later_patterns import later_pattern
from harness.quick import dataclass

_NOTHING = r"(?!)"

# What may stand between a cue and the letter.
_OPENERS = r"""[\s:"'“‘「『(\[【《<{√"""
_DECOR = rf"{_OPENERS}=\-–—>→”’」』}}#.]{{0,20}}(?:选项|第|option|choice|letter)?{_OPENERS}]{{0,8}}"

_MAY = (
    r"(?:即|应该|应当|应|就|便|只能|只有|可能|大概|显然|必然|必定|必|一定|肯定|毫无疑问|无疑|很?明显|自然|当然|绝对|最终|还|仍"
    r"|也|我选|的)*"
)
_KIND = r"(?:一项|选项|说法|答案|选择|一个|做法|结论)"
# A label with which a line ends; and one with which a line or a sentence does.
_ALONE = r"\W*[A-Z]\W*(?:$|\n)"
_ENDS = r"\W{0,4}[A-Z](?:选项|项)?[)\]】”\"]?(?:[吧了啊呀哦啦的]?\W*(?:$|\n)|[。;.](?:\s|$))"
_THINK = (
    r"(?:认为|觉得|应该|应当|应|可能|大概率?|八成|多半|当然|或许|也许"
    r"|显然|肯定|毫无疑问|无疑|很?明显|绝对|估计|猜测?|也就|也即|就|而|只能|只有|必定|一定|确定)"
)
_ZH_CUES = (
    # 答案是, 答案选, 【答案】, 正解：, 答：
    rf"(?:答案|正解)(?:选项|如下)?[】\])]?(?:\([^()\n]{{1,20}}\)(?=\s*[:是为]))?\s*{_MAY}\s*"
    r"(?:是|为|选择|选|即|填|は|锁定(?:在|为)?|指向了?|在(?=[^\s\w]{0,3}[A-Z](?:选项|项|\W|$))|有|包括|包含)?",
    r"答(?<![回解应问]答)曰?:",
    # 正确的(选项)是, 最合适的一项为, 正确选项：
    rf"(?:正确|对|最佳|最优|[^\s不错误非的,。;:A-Za-z]{{1,6}})的{_KIND}?{_MAY}(?:是|为)",
    r"(?:^|\n)\s{0,80}是",
    # 输出：B, alone in its line
    rf"(?:^|\n)\W{{0,80}}(?:助手|输出|回[答复]|结果|解答|解|我的回答|判断结果|选中|选项)\s*(?:是|为|:)(?={_ALONE})",
    rf"(?:^|\n)\s{{0,80}}答\s(?={_ALONE})",
)
_ZH_SIGNS = (
    "指订仅唯明毫无绝正对符\"“'只剩最合恰选认觉应可大八多当或也显肯估猜蒙投"
    "那就而即匹与必一确因所综总故从结倾不并错更纠改修"
)
_ZH_CUES_BY_SIGN = (
    # 正确的有A、C, "选项": "C"
    rf"(?:正确|对|符合题意)的{_KIND}?(?:分别)?(?:有|包括|包含)",
    r"[\"“']选项[\"”']\s*:",
    # 只剩C
    r"(?:只?剩(?:下|余)?的?(?:选项)?(?:就?只?有|就?是)?)(?=\s*[A-Z](?:选项|项)?(?:\W|$|了))",
    rf"(?:正确|最佳|合适|恰当)(?:答案|选项|选择|项){_MAY}(?:是|为)?",
    # 错误：A、B；正确：C, and not the verdict A 正确：
    r"(?<![A-Z])(?<![A-Z][\s.、:)])(?<!不)(?:正确|对)(?:的|项)?\s*:(?=\W{0,3}[A-Z](?![A-Za-z]))",
    # 对应选项C, 与选项B一致, 即选项D; 选项为C
    r"(?:对应|符合|匹配|即为?|所以是)(?:的|是|于)*(?:选项|答案)(?:是|为)?",
    r"与(?:选项|答案)(?=\W{0,2}[A-Z]\W{0,2}(?:选项|项)?(?:的\S{1,6})?(?:一致|相符|吻合|符合|对应|匹配|相同))",
    r"选项(?:应该|应)?(?:是|为)",
    # 第二个选项，即B。
    rf"(?:(?<=[,:。\s])|(?<!.))即(?:为|是)?(?={_ENDS})",
    # 我猜B, 应该B
    rf"(?:猜|蒙|投)(?:测|一个|个)?(?={_ENDS})|应该(?={_ENDS})|那?就?只有(?={_ENDS})|那就(?={_ENDS})"
    rf"|(?:显然|无疑|肯定|一定|指向)(?={_ENDS})",
    # 只有C符合
    r"(?:只有|仅有?|唯有)(?:选项)?(?=[\s(]?[A-Z]\)?(?:选项|项)?(?:最?符合|满足|成立|能|可以|与))",
    # 故选, 应选, 选择, 我选, 选（A）
    r"选(?:择|取|出|定)?(?![项题])(?:答案|的?是|为)?",
    # 应该是, 应为, 我认为是, 而是, 就是, 可能是
    rf"{_THINK}(?:答案|选项)?(?:是|为)",
    # 因此B。 所以，B
    r"(?:因此|所以|综上(?:所述)?|总之|故|因而|从而)[,:]?\s*(?:答案|选项|是|为)?(?=\W*[A-Za-z](?:选项|项)?\W*(?:$|\n|[。;]))",
    # 因此，D. would have gone 是正确的
    r"(?:因此|所以|综上(?:所述)?|故|因而|从而)[,:]?\s*"
    r"(?=\W{0,3}[A-Z]\s*[.、:)][^\n。;]{1,80}?(?<![不非])"
    r"(?:是正确|符合题意|是对的|最恰当|最合适|is (?:correct|right|best)))",
    r"(?:显而易见|显然|结论|所以|因此|综上(?:所述)?|选择)\s*:",
    r"倾向于?(?:选择?)?|(?:故|应|所以|因此)填",
    # 不是A，是B
    r"(?:不是|并非|不选)[^。;\n]{1,6}[,;]\s*(?:而?是|而?选)",
    r"(?:(?:不对|不是|错了|更正|纠正|改选)[,:。]?|(?<![^\s?!。,;])不[,:。])\s*(?:应该|应)?(?:是|为)"
    rf"|(?:改|更正|修正|纠正)(?:为|成)了?|(?:更正|修正|纠正|改正|订正)后?:(?={_ENDS})",
)
_COULD = r"(?:could|might|may|can)(?: also| well)? be"
_IS = (
    rf"(?:\s+(?:is|are|was|were|would be|will be|should be|must be|has to be|{_COULD}|seems to be|appears to be"
    r"|turns out to be|remains|becomes)\b|\s*['’]s\b|\s*[\"'”]?\s*(?:[:=→>]|[-–—]+>?)|\s*\n)"
)
_SURE = (
    r"(?:\s+(?:that|indeed|definitely|clearly|obviously|most likely|likely|probably|therefore|thus|simply|just"
    r"|actually|still|then|in fact|both))*"
)
_ANSWER = (
    r"(?:answers?|ans|answer choice|(?:best|right|correct|true|only \w+) (?:choice|option|letter|one|statement)s?"
    r"|choice|option|selection|solution|pick|(?:closest|nearest)(?: match| one)?)\b(?:\s*\([^()\n]{1,30}\)(?=\s*:))?"
)
_ANSWER_ALONE = r"(?:answer|ans)\.?\s*(?:option|choice)?(?=\W+[A-Z]\b)"
_EN_CUES = (
    # the (correct) answer is, Answer:, correct option is, final answer =
    rf"{_ANSWER}(?:,[^,.:\n]{{1,30}},)?"
    rf"(?:\s+(?:here|chosen|selected|option|letter|choice|to [^.\n:]{{1,60}}?|for [^.\n:]{{1,60}}?"
    rf"|(?:among|amongst|out of|from|of|between)\s(?:[^.\n:]{{1,60}}?)(?=\s(?:is|are|would|must|should)\b)))?[\])]?"
    rf"{_IS}(?:,[^,.:\n]{{1,30}},)?{_SURE}"
    r"(?:\s+(?:option|choice|letter|answer|the option|the choice))?",
    rf"(?:final|correct|my|the|right|best)\s+{_ANSWER_ALONE}",
    # Incorrect: A, B. Correct: C.
    rf"(?:correct|right)\s*:(?=\s{_ENDS})",
    r"(?<!\bis )(?<!\bare )(?<![A-Z][.):] )(?<![A-Z]\) )(?:correct|right)\b\s*(?::|is\b)",
    # matches option C, which is choice (D), so option B
    rf"(?:match(?:es|ing)?|correspond(?:s|ing)?\s+to|equals|is|that['’]s|so|hence|thus|therefore|namely|i\.e\.)[,:]?"
    rf"\s+(?:the\s+)?(?:(?:answer\s+)?(?:option|choice)|answer)(?=\s{_ENDS})|match(?:es)?(?=\s{_ENDS})",
    # C) I and III only
    r"(?:so|thus|therefore|hence)\b[,:]?(?=\s[A-Z]\)\s)",
    # the one that best fits is A
    r"the (?:one|option|choice) that (?!(?:is|are|was) )(?:(?!\bnot\b|n['’]t)[^.\n]){1,60}? is"
    r"(?=\s\W?[A-Z]\W*(?:$|\n))",
    # I choose, I would pick, go with
    r"(?:choos(?:e|ing)|chose|pick(?:ed|ing)?|select(?:ed|ing)?|go(?:ing)? with|went with|opt(?:ing)? for|settle on"
    r"|vote for|lean(?: towards?)?|conclude(?: that)?(?: it is| it's)?|guess(?: is| it is| it's| would be)?|say|vote"
    r"|(?:(?<=would )|(?<=['’]d ))answer)\b"
    r"(?:\s+(?:the\s+)?(?:answer|option|choice|letter))?",
    # So, B.   Therefore (C)
    r"(?:so|thus|therefore|hence|consequently|ultimately|conclusion|overall|in short"
    r"|(?<!or )(?:definitely|probably|(?:most |very )?likely|certainly|clearly|obviously|apparently|perhaps"
    r"|maybe|surely))\b[,:]?"
    r"(?:\s+(?:it is|it's|it must be|we get|we have|that is|that's))?(?=\W*[A-Z]\W*(?:$|\n))",
    rf"(?:it['’]?s|it (?:is|must be|has to be|should be|would be|{_COULD})|that (?:is|would be)|that['’]?s|must be"
    r"|has to be|actually|rather|instead)\b[,:]?(?:\s+(?:option|choice|letter))?(?=\W*[A-Z](?:\W*(?:$|\n)|[.,;!)]))",
    # That leaves C.
    r"(?:(?:that|this|which|it|[A-Z]) leaves|leaving|left with)\b(?:\s+(?:us|me|with|only|just|the|option))"
    r"{0,4}(?=\W*[A-Z](?:\W*(?:$|\n)|[.,;!)]))",
    # ... no wait, B
    r"(?:no|wait)(?:[,.\s]+wait)?,\s*(?:it['’]s\s|it is\s)?(?=\W{0,3}[A-Z](?:\W*(?:$|\n)|[.,;!)]))",
    # Only C fits.
    r"only\b(?:\s+(?:option|choice))?(?=\s+[(]?[A-Z][)]?\s+"
    r"(?:fits|works|matches|satisfies|holds|remains|makes sense)\b)",
    # not A but B
    r"but\b(?=\W*[A-Z]\W*(?:$|\n|[.,;]))",
)
# In the languages of MMMLU and its like, as OpenAI's simple-evals knows them (common.py).
_ELSEWHERE = (
    r"(?:r[ée]ponse|respuesta|resposta|risposta|antwort|jawaban|jawapan|jibu|[ìi]d[áa]h[ùu]n|答え|정답|답변?|الإجابة|الجواب"
    r"|إجابة|उत्तर|उत्तरः|উত্তর|ответ)"
)
# One look at the sign with which a cue begins spares trying all the others: most places of a text end there. Blanks
# before the others are counted, as those before a next question are.
_CUES = "|".join(
    (
        *_ZH_CUES,
        rf"(?=[{_ZH_SIGNS}])(?:{'|'.join(_ZH_CUES_BY_SIGN)})",
        rf"\b(?=[a-z])(?:{'|'.join(_EN_CUES)})",
        rf"(?:^|\n)\s{{0,80}}{_ANSWER_ALONE}",
        rf"(?:^|\n)\W{{0,80}}(?:assistant|response|output|result|reply|letter|key|vote)\b\s*:(?={_ALONE})",
        rf"(?:^|\n)\W{{0,80}}{_ELSEWHERE}(?:\s+\w{{1,12}}){{0,3}}\s*:(?=\W*[A-Z](?![A-Za-z]))",
        rf"(?:^|\n)(?:the )?letter is(?={_ALONE})",
        rf"(?:^|\n)\s{{0,80}}(?:→|=+>|⇒|∴)(?={_ALONE})",
        r"#{3,4}",
    )
)
_WRONG_CUE = (
    r"(?:(?:错误|不正确|有误|不对|不恰当|不合适|不当|不合理|不属于\S{0,8}|不符合\S{0,6}|不包括\S{0,6}|不成立|不可行"
    rf"|非\S{{1,6}})的?{_KIND}?\s*(?:应该|应|就)?(?:是|为|有|:))"
    r"|\b(?:incorrect|wrong|false|untrue|odd)\s+(?:one|option|choice|answer|statement)(?:\s+out)?\s+(?:is|:)"
)

# Between the letters of a list: A、B 和 D, A and B. A comma or a space ends the list where a verdict on the next letter
# follows: 答案是A，B错误.
_JOINED = (
    r"[ \t]*[)\]]?[ \t]*(?:[、/&+]|,?[ \t]*\b(?:and|or)\b|和|与|及|以及|或者?|还是|vs\.?)[ \t]*"
    r"(?:选项|选|(?:option|either)\b)?[ \t]*[(\[]?"
)
# A bracket that is closed ends the list, unless a sign or another bracket goes on with it: (D) A lymphocyte.
_QUOTE_AFTER, _QUOTE_BEFORE = r"""["'”’]?""", r"""["'“‘]?"""
_LISTED = (
    rf"(?:[ \t]*{_QUOTE_AFTER}[ \t]*[,;]?[ \t]*[(\[]?"
    rf"|[ \t]*{_QUOTE_AFTER}[)\]}}]{_QUOTE_AFTER}[ \t]*(?:[,;][ \t]*[(\[]?|[(\[]|(?=[A-Z][)\]]))){_QUOTE_BEFORE}"
)
_NO_VERDICT = (
    r"(?!\s*[)\]]?\s*(?:\((?:不|错|误)|选项|项|的|是|为|都|均|也|虽|则|不|错|误|有误|正确|对|符|中|会|只|has\b|have\b|is\b|are\b|was\b|were\b"
    r"|does\b|do\b|can\b|would\b|['’]s\b|(?:和|与|、)\s*[A-Z]\s*(?:选项|项)?(?:都|均|皆)?(?:错|不|有误|误)))"
)
# Between letters of which one verdict is given: A和B正确.
_BOTH = r"\s*[)\]]?\s*(?:[、/&]|,?\s*\band\b|和|与|及|以及)\s*(?:选项|option\b)?\s*[(\[]?"
# Nothing of it is given back, lest a thousand blank lines be read a thousand times: `(?<=\s)` asks for a blank in it.
_AFTER_ITEM = r"""[)\]"'”’]*+\s*+"""

# Before a cue, or after a letter: that the choice is one of several. 要么选A，要么选B; 选A也行，选B也行
HEDGED_BEFORE = later_pattern(r"(?:可能|也许|或许|大概|要么|或者?)(?:会|要|应该?)?\s*$")
HEDGED_AFTER = later_pattern(r"\W{0,2}(?:选项|项)?也(?:行|可|能|没问题)")
HEDGED = later_pattern(r"可能|也许|或许|大概|could|might|may\b|maybe|perhaps")
# A/B leaves a choice; A/B/D is a list.
OPEN = later_pattern(r"或|还是|\bor\b|\bvs|^[^/]*/[^/]*$")
JOINING_WORDS = later_pattern(r"\b(?:and|or|vs|option|either)\b", re.IGNORECASE)
SMALL_LINE = later_pattern(r"\W*[a-z](?:\W*[,、&]\W*[a-z])*\W*")

# After a letter: what makes the claim a denial or a question.
DENIED_AFTER = later_pattern(
    rf"\s*+{_AFTER_ITEM}(?:选项|项)?(?:(?:是|为|显然|肯定|也|都|就|则|明显|会|的说法|答案|这个)*"
    r"(?:不(?:对|正确|成立|合适|符合|可能|行|恰当|是答案|是正确|太)|错|有误|误|吗|么|呢)"
    r"|\s*+(?<=\s)(?:is|was|are|would be|seems|must be)\s+(?:also |clearly |obviously |definitely |probably )*"
    r"(?:not\b|wrong|incorrect|false|invalid|out\b|impossible|unlikely|n't)|\s*+(?<=\s)(?:isn't|can't|cannot)\b|\s*+\?)"
)
# After a letter: words of which it is a part (B型血, C major).
NOUN_AFTER = later_pattern(
    r"(?:型(?!的选项)|类|级|语言|股|轮|楼|座|区|班|组|肝|超|站|线|字|罩|货币|国|公司|同学|市|城|君|先生|队|层|栋|族|片|大调"
    r"|小调|调|度|品牌|点(?!正确|对)|[两三四五六几]个|之间)"
    r"|\s+(?:good|better|new|great|very|few|lot|little|number|man|woman|person|major|minor|sharp|flat|single|simple)\b"
)
# After the article or the pronoun that A and I may be: words that can follow an answer.
ANSWER_GOES_ON = later_pattern(
    r"\s+(?:because|since|as|for|which|so|due|with|given|and|but|not|rather|in|based|according|here|from|that|is|fits|works|matches|satisfies|holds|remains|makes)\b"
)
# None of the options A, B, C, D is correct
NONE_BEFORE = later_pattern(
    r"(?:\b(?:none|neither|no(?:ne)? one)\b|没有(?:一个|一项|任何)?)[^.。;\n]{0,60}$", re.IGNORECASE
)
# Before a cue: what makes the claim a denial, a supposition, or somebody else's.
DENIED_BEFORE = later_pattern(
    r"(?:(?<![无非])不(?:能|应|应该|该|可|可以|会|要|宜|必|用|再|敢|想|得)?(?:再|直接|轻易)?|别|勿|莫|误|错|排除|难以|无法"
    r"|没有|未|防止|避免|(?:没有|缺乏|无)(?:证据|理由|依据|把握)[^\s,。;]{0,4}|难以?说|不敢说|不(?:代表|意味着|等于|确定|认为|觉得))\s*$"
    # I don't think the answer is A
    r"|(?:\bnot\s+|n['’]t\s+)(?:think|believe|feel|say|agree|mean|claim|sure|certain)(?:\s+(?:that|if|whether))?(?:\s+the)?"
    r"(?:\s+correct|\s+right)?\s*$"
    # Let us look at each option: A. ...
    r"|\b(?:each|every|all|these|those|following|remaining|other)(?:\s+of\s+the(?:se)?)?(?:\s+answer)?\s+$"
    r"|(?:\b(?:not|never|cannot|without|avoid|neither|rather than|instead of|nor|do not)|n['’]t)"
    r"\s+(?:to\s+|be\s+|just\s+|simply\s+)?$",
    re.IGNORECASE,
)
SUPPOSED_BEFORE = later_pattern(
    r"(?:如果|若是?|假如|假设|假定|要是|倘若|即使|即便|(?<!应)当|是否|要不要|为什么|为何|何时)"
    r"(?:我们|你|我|考生|正确|题目|该题|本题)*\s*$"
    r"|\b(?:was|were)\s+(?:going|about|tempted|inclined)\s+to\s*$"
    r"|\b(?:if|suppose|assuming|whether|unless|were|why|had)\s+(?:the|you|we|i|one|they)?\s*(?:correct\s|right\s)?$",
    re.IGNORECASE,
)
OTHERS_BEFORE = later_pattern(
    r"(?:有人|的人|[甲乙丙丁]|小[\u4e00-\u9fff]|学生|同学|考生|多人|大家|他们?|她|某些模型|容易|易|往往)"
    r"(?:可能|也许|往往|常常|容易|会|都|也|就|想|去|首先)*\s*$"
    r"|\b(?:some|many|most|students?|people|others?|might|they)\s+(?:people\s|students\s|would\s|might\s|may\s|will\s)*$",
    re.IGNORECASE,
)

_ADVERBS = r"(?:also |both |clearly |indeed |definitely |obviously |likely |probably |thus |therefore |all )*"
_RESULT = (
    r"(?:(?:选项|项)?(?:就|才|便|即|应该|应)?(?:是|为)(?:本题|唯一|该题|最终|此题)?的?"
    r"(?:正确|最佳|最终|标准|最合适|最恰当|最符合|合理)?的?(?:答案|选择|正解|选项|那个|一项)"
    rf"|(?i:(?<=\s)(?:is|would be|must be|should be|has to be|seems to be|appears to be)\s+{_ADVERBS}"
    r"(?:the |my |our )?(?:only |most \w+ |final )?(?:correct |right |best |proper |appropriate |true )?"
    r"(?:(?:strong|bett|clos|saf|clear)(?:er|est) )?(?:answer|option|choice|one)\b|(?<=\s)it is(?=\W*(?:$|\n))))"
)
_RIGHT = (
    r"(?:(?:选项|项|说法)?(?:的?(?:说法|描述|表述|内容|答案|做法))?"
    r"(?:是|则|都|均|也|才|显然|明显|完全|最|更|相对|比较|很|应该|应|为)*"
    r"(?:正确(?!与否|率|性)|对(?=[\W_A-Z]|$|的(?!\w)|了|吧|且|而|但)|符合(?:题意|题目|要求|条件|文意|原文|史实|事实|语境|题干)|成立|合理|恰当|合适|准确"
    r"|(?<=[最更])(?:好|优)(?=\W|$)|(?<=最)(?:符合|贴切|能(?:体现|说明|反映|表现|概括|表达|代表|支持))|没错|无误|没有(?:错误?|问题)|满足(?:题意|题目|要求|条件|题设)|当选(?=\W|$))"
    rf"|(?i:(?<=\s)(?:is|are|was|seems|appears|looks|must be)\s+{_ADVERBS}(?:the only |the )?(?:most |more |the more )?"
    r"(?:correct|right|true|better|accurate|valid|best|appropriate|suitable)\b"
    r"|(?<=\s)(?:best |most closely )(?:fits|matches|describes|answers|explains|represents|completes|reflects)\b"
    r"|(?<=\s)(?:satisf(?:y|ies)|meets?|fulfil(?:l)?s?)\s+(?:all|both|the|every)\b))"
)

# Verdicts on one option after the other: A. 错误 B. 正确; | C | ✅ |; Option D: incorrect; (A) False.
_GOOD = r"(?:√|正确|对|符合题意|(?i:correct|right|true|yes)\b)"
_BAD = r"(?:×|不正确|不对|错误|错|有误|不符合题意|不符合|(?i:incorrect|wrong|false|no)\b)"
# In what stands behind another option's label: that the reply says something of it, and does not only repeat it.
SAYS_WHY = later_pattern(
    r"^\s*(?:选?项|是|不|没|错|对|也|都|则|虽|因|与|只|\(|(?:is|are|was|were|does|do|has|have|would|can|cannot|could|isn't"
    r"|doesn't|because|since|fails?|lacks?|refers?)\b)|错误|有误|不符|不对|不正确|不选|排除|正确|不是|不能|不会|不可|不属于|符合|因为|所以"
    r"|\b(?:in)?correct\b|\bwrong\b|\bfalse\b|\bnot\b|\bbecause\b|\btherefore\b",
    re.IGNORECASE,
)
# At the end of what stands in front of one.
LEADS_ON = later_pattern(
    r"(?:\b(?:because|since|not|than|while|whereas|but|as|if|of|or|and|both)|因为|由于|而|不是|比|如果|但)\s*\(?$",
    re.IGNORECASE,
)
VERDICT_TEXT = later_pattern(rf"\W*(?:{_GOOD}|{_BAD})\W*")
_VERDICT_ENDS = (
    r"(?=\s*(?:$|[\n.,;:。、|)\]!—–√×-]|因为|because\b|since\b|as\b|[(\[]?(?i:option\s*|choice\s*)?[A-Z](?![A-Za-z])))"
)
NOT_ALL = later_pattern(r"(?:不是|并非|未必|不|非|not)\s*$", re.IGNORECASE)
# In the cue of a claim that takes back the one before.
CORRECTS = later_pattern(r"不|改|更正|修正|纠正|订正|错|而|\b(?:actually|rather|instead|but|no|wait)\b", re.IGNORECASE)
STRONG_WORD = later_pattern(r"答案|answer|正确|correct|right|best|选", re.IGNORECASE)
ANSWER_WORD = later_pattern(r"答案|answer", re.IGNORECASE)
# Where a base model goes on with the next question of its own.
# Blank lines are counted: of a thousand, each would be read to the end again.
NEXT_QUESTION = later_pattern(
    r"\n[\s#*]{0,80}(?:(?:Question|Q|Problem|Exercise|Human|User|Instruction)\b(?:\s{0,80}\d+)?[*\s]{0,80}[:.：]"
    r"|(?:题目|问题|问|例|下一题|用户)\s{0,80}\d*\s{0,80}[:：]|第\S{1,3}题[:：\s])"
    # 2. Which planet ...? and its options
    r"|\n\s{0,80}\d{1,2}\s{0,9}[.、][^\n]{4,300}[?？:：]\s{0,80}\n\s{0,80}[(（]?A[)）]?\s*[.、:：)）]"
)
# 正确的有: and then a letter a line, without a verdict on it.
_BULLET = (
    r"(?:\A|\n)\s*(?:[-•·]|\d+[.)])[ \t]*(?:选项|(?i:option)\s)?[A-Z]"
    r"(?:[.、:)](?![^\n]*(?:错|对|正确|[√×]|(?i:correct|wrong|true|false)))[^\n]*)?(?=\n|$)"
)
LETTER_LINES = later_pattern(rf"(?:(?<=:)|\A)(?:{_BULLET}){{2,}}")
_LISTED_OPTION = (
    r"[A-Z][.、)]\s?(?:(?!错|对|正确|符合|[√×]|(?i:correct|wrong|true|false|right)|[A-Z][.、)])[^\n。;,]){1,60}"
)
_LISTED_OPTIONS = later_pattern(
    rf"(?:(?<=[:是为有选择括项】\[])|(?<=\bare)|(?<=\bis))\s*{_LISTED_OPTION}(?:\s*[;,、\n]\s*{_LISTED_OPTION})+"
)
_VERDICT_WORD = later_pattern(r"[√×]|错|正确|correct|false|true", re.IGNORECASE)
# 选项A，选项B; “A”和“C”; A项、C项; (A); (C); A+C; a letter a line. Behind a comma, a semicolon or a line break a label
# goes on with the list only where nothing is said of it.
_IN_MARKS = (
    r"""(?:[(\[【"'“‘「『]\s?)?(?:选项\s?|(?i:\boptions?)\s)?(?<![A-Za-z0-9])[A-Z](?![A-Za-z0-9]|['’][A-Za-z])(?:选项|项)?"""
    r"""(?:\s?[)\]】"'”’」』])?"""
)
_TIED = r"\s?(?:[、/&+]|,?\s?\band\b|,?(?:以及|和|与|及))\s?"
_GOES_ON = (
    rf"\s?[,;\n]\s*(?={_IN_MARKS}(?:{_TIED}{_IN_MARKS}){{0,25}}\s*"
    r"(?:[。!)\]】}<√]|[,;.](?!\s?(?!共|其|因|故|所以|选项[A-Z])[^\W\d_A-Z])|\((?:多选|共)|$|\n))"
)
_MARKED_LIST = later_pattern(rf"{_IN_MARKS}(?:(?:{_TIED}|{_GOES_ON}){_IN_MARKS}){{1,25}}")
_OPTION_LINE = later_pattern(r"\s*\W{0,3}([A-Z])[.、)]\s?[^\n]*")


def as_one_list(text: str, labels: str) -> str:
    """Several chosen options, each with its text or in a line of its own, as `A, C`; all else as it is."""
    text = LETTER_LINES.sub(one_line, text)
    text = _LISTED_OPTIONS.sub(lambda match: " " + ", ".join(re.findall(r"([A-Z])[.、)]", match.group())), text)
    text = _MARKED_LIST.sub(_bare_labels, text)
    if re.fullmatch(r"\W*[A-Z](?:\s*[;|+]\s*[A-Z])+\W*", text):
        return re.sub(r"[;|+]", ",", text)
    lines = [_OPTION_LINE.fullmatch(line) for line in text.splitlines() if line.strip()]
    chosen = [line[1] for line in lines if line]
    # A reply that gives all options, or the last of them as they stand, has chosen none.
    if 1 < len(chosen) == len(lines) and not labels.endswith("".join(chosen)) and not _VERDICT_WORD.search(text):
        return ", ".join(chosen)
    return text


# `A: B` of a model that goes on with questions and answers.
ANSWER_MARK = later_pattern(r"\A\s*A\s?:\s*(?=[(]?[A-Z][)]?\s*(?:[.,\n]|$))")
# What an option's text follows where it is the answer, and what makes a sentence no statement.
COPULA_END = later_pattern(r"(?:\b(?:is|are|was|were|be|called)(?: the| an?)?\s|[是为叫即]\s?|=\s?)$")
NOT_STATED = later_pattern(
    r"[不非没未若]|如果|无法|可能|也许|\b(?:not|never|neither|nor|no|if|could|might|may|cannot)\b|n t\b"
)


def one_line(match: re.Match[str]) -> str:
    """The letters of several lines in one: `- A` and `- C` as `A, C`."""
    return (
        " " + ", ".join(re.findall(r"(?:\A|\n)\s*\W*(?:\d+\W+)?(?:选项|(?i:option)\s)?([A-Z])", match.group())) + "\n"
    )


def _bare_labels(match: re.Match[str]) -> str:
    """The labels of a list without marks and words around them; A/B stays a choice that is left open."""
    written = match.group()
    found = re.findall(r"(?<![A-Za-z])[A-Z](?![A-Za-z])", written)
    # Brackets around the whole list stay, so that they are closed where they were opened.
    opened, closed = written[0] in "([【", written[-1] in ")]】"
    around_each = opened and bool(re.match(r"\W\s?(?:选项|(?i:options?)\s)?[A-Z](?:选项|项)?\s?[)\]】]", written))
    listed = ("/" if written.count("/") == len(found) - 1 else "、").join(found)
    return listed if around_each else written[0] * opened + listed + written[-1] * closed


# The reply says that the question asks for the option that is wrong.
ASKS_WRONG = later_pattern(
    r"选非题|(?:要求|选出|选择|找出|问的?是?|题为|要选)[^。\n]{0,12}(?:不正确|不恰当|错误|有误|不符合|不属于)"
    r"|\b(?:asks|asking|asked|find|choose|select|which)\b[^.\n]{0,40}\b(?:not|incorrect|false|wrong|except(?:ion)?)\b",
    re.IGNORECASE,
)


# 四个选项全部正确, 以上都对, all (four) options are correct
ALL_RIGHT = later_pattern(
    r"(?:(?:[三四五六]个|所有|全部|以上)?选项|以上(?:各项|说法)?)(?:全部|全|均|都)(?:是)?(?:正确|对|符合)"
    r"|\ball (?:of )?(?:the )?(?:(?:three|four|five|six) )?"
    r"(?:above|options|choices|statements|answers)(?: above)?"
    r" (?:are|is) (?:correct|right|true)\b"
    r"|\A\W*(?:答案[是为]?[:\s]*)?(?:应该?|应当)?(?:全选|都选|全部(?:都)?选|以上皆[是对])\W*\Z"
    r"|\A\W*all of the above\W*\Z",
    re.IGNORECASE,
)


_BEFORE, _AFTER = 160, 100  # characters around a label with the longest cue, and what must or must not follow


@dataclass(frozen=True, slots=True)
class Near:
    """An expression all of whose matches hold a label. Only text around labels is searched, since most text has none.

    label: a label, and the signs after it without any word.
    """

    pattern: re.Pattern[str]
    label: re.Pattern[str]

    def finditer(self, text: str) -> Iterator[re.Match[str]]:
        for start, last, end in self._stretches(text):
            for match in self.pattern.finditer(text, start, end):
                # A word that is cut off where a stretch ends is no label.
                if match.start("found") <= last:
                    yield match

    def _stretches(self, text: str) -> Iterator[tuple[int, int, int]]:
        """The parts of a text with labels in them: start, place of the last label, end."""
        if len(text) <= _BEFORE + _AFTER:
            if self.label.search(text):
                yield 0, len(text), len(text)
            return
        start = last = end = -1
        for label in self.label.finditer(text):
            if label.start() - _BEFORE > end:
                if end >= 0:
                    yield start, last, end
                start = max(0, label.start() - _BEFORE)
            last, end = label.start(), label.end() + _AFTER
        if end >= 0:
            yield start, last, end


@dataclass(frozen=True, slots=True)
class Patterns:
    """The expressions that depend on the labels. Each match of a claim has the group `found`, and perhaps `cue`."""

    labels: str
    cue: Near
    small: Near
    foreign: Near
    result: re.Pattern[str]
    wrong: re.Pattern[str]
    bare: re.Pattern[str]
    ending: re.Pattern[str]
    beginning: re.Pattern[str]
    judged: re.Pattern[str]
    verdict: re.Pattern[str]
    numbered: re.Pattern[str]
    all_but: tuple[re.Pattern[str], ...]
    open_after: re.Pattern[str]
    bracketed: re.Pattern[str]
    listing: re.Pattern[str]
    in_line: re.Pattern[str]
    option_mark: re.Pattern[str]


@functools.lru_cache(maxsize=64)
def patterns_for(labels: str) -> Patterns:
    """Compile the expressions for some labels, one character each."""
    one = f"[{re.escape(labels)}]"
    letters = labels.isascii() and labels.isalpha()
    edge, item = _item(labels, one, letters)
    # Labels are at most an alphabet; the bound keeps a reply that repeats one letter for ever readable in time.
    more = rf"(?:{_JOINED}{edge}{item}|{_LISTED}{edge}{item}{_NO_VERDICT}){{0,25}}"
    group = rf"{edge}(?P<found>(?>{item}{more}))"
    together = rf"{edge}(?P<found>(?>{one}(?:{_BOTH}{edge}{one}){{0,25}}))(?![A-Za-z0-9])"
    said = rf"(?P<cue>(?i:{_CUES}))(?P<decor>(?i:{_DECOR}))"
    small, other = (_small_group(labels), _other(labels)) if letters else (_NOTHING, _NOTHING)
    return Patterns(
        labels=labels,
        cue=Near(re.compile(said + group), re.compile(rf"{edge}{one}+\W*")),
        small=Near(re.compile(said + small), re.compile(rf"{small}\W*")),
        foreign=Near(re.compile(said + other), re.compile(rf"{other}\W*")),
        result=re.compile(rf"{group}{_AFTER_ITEM}{_RESULT}"),
        wrong=re.compile(rf"(?P<cue>(?i:{_WRONG_CUE}))(?P<decor>(?i:{_DECOR})){group}"),
        bare=re.compile(
            rf"^{_OPENERS}#>\-•]{{0,20}}(?:(?i:嗯+|好的?|好吧|那就|ok|okay|hm+|well|sure)[,:.!\s]{{1,3}})?"
            rf"(?:选项|只?选|只有|是|(?i:option|choice|answer|ans|only|just)\b)?[\s:.(\[【]{{0,8}}{group}"
            rf"[\s\"'”’」)\]】}}>.。,!、]*+(?:选项|项|[吧啊呀哦啦嘛])?[\s.。!]*+(?:<?eoa>?)?\s*$"
        ),
        # Not the end of U.S.A., and not the second of several numbered answers.
        ending=re.compile(rf"(?:[。!]|(?<![A-Z])[.;]|\.(?=\s))\s*[(\[]?{group}[)\]]?[\s.。!]*$"),
        beginning=re.compile(
            rf"^[\"'“‘(\[【√\s]*(?:选项|选|(?i:option|choice)\s+)?{group}[\"'”’]*\s*(?:[)\]】]\s*)?"
            r"(?:[.、:,;。)\]】]|$|\n|\s?√\s*\Z|(?<=\s)(?=[^\W\dA-Za-z_])|(?=(?:选项|项)(?:\W|$|因为|由于|吧)|因为|由于|理由|解析|全选|都选)"
            r"|[-–—]{1,2}\s+(?![A-Z]\b)|(?<=\s)(?:because|since)\b|\([^()\n]{2,80}\)[\s.。]*\Z)"
        ),
        judged=re.compile(rf"{group}{_AFTER_ITEM}{_RIGHT}"),
        verdict=re.compile(
            rf"{together}(?:\s*[两三四五]?(?:个?选项|项|个|者))?(?:的?(?:说法|表述|描述))?"
            rf"(?:都|均|皆|全|是|为|:)*[\s.、:|()\]】,=\-–—>]{{0,6}}"
            rf"(?:(?P<good>{_GOOD})|(?P<bad>{_BAD})){_VERDICT_ENDS}"
        ),
        numbered=re.compile(rf"^\s*[(]?(?:第|Q)?\d{{1,3}}(?:题|[.、)])?\s*[.、:)]?\s*[(]?({one})[)]?\W*$"),
        all_but=(
            re.compile(
                rf"(?:除了?|排除|只有)\s*{together}\s*(?:选项|项)?(?:[之以]?外|不正确|不对|错误|错|有误|正确)?,?\s*"
                r"(?:其余|其他|其它|别的)?[^A-Z,。;\n]{0,6}?(?:全部|全|均|都)(?:是)?(?:(?P<good>正确|对|符合)|(?P<bad>不|错|有误))"
            ),
            re.compile(
                rf"\b(?i:all\s+(?:(?:of\s+)?the\s+)?(?:(?:other\s+)?(?:options|choices|statements|answers)\s+)?"
                rf"(?:but|except)(?:\s+for)?)\s+(?i:(?:option|choice)\s+)?{together}\s+"
                r"(?i:are|is)\s+(?:(?P<good>(?i:correct|right|true))|(?P<bad>(?i:incorrect|wrong|false)))\b"
            ),
        ),
        open_after=re.compile(
            rf"{_AFTER_ITEM},?\s*(?:\bor\s+not\b|(?:\bor\b|或|还是)[^.。\n;A-Z]{{0,24}}[(\[]?{one}(?![A-Za-z0-9]))"
        ),
        bracketed=re.compile(rf"(?<![A-Za-z0-9'])[(\[【]\s*({one})\s*[)\]】]"),
        listing=re.compile(rf"^\s*[(\[【]?({one})[)\]】]?\s*[.、:)]", re.MULTILINE),
        # Not A、 of A、B、C, which is a list of letters.
        in_line=re.compile(rf"{edge}({one})[)\]】]?\s?[.、:)](?!\s*[(\[【]?{one}(?![A-Za-z0-9]))"),
        # In front of an option's text: A. (A) 【A】, and A before a Chinese word.
        option_mark=re.compile(
            rf"(?:选项\s?|\b(?i:option|choice)\s)?(?:[(\[【]\s?(?P<bracketed>{one})\s?[)\]】]|{edge}(?P<plain>{one})(?:\s?[.、:)](?=\s*\S)(?!\s*[(\[【]?{one}(?![A-Za-z0-9]))|\s(?=[\u4e00-\u9fff])))"
        ),
    )


def _item(labels: str, one: str, letters: bool) -> tuple[str, str]:
    """What must not stand before a label, and a label (or `ABD`, several that touch) with what must not follow it."""
    if letters:
        return r"(?<![A-Za-z0-9])", rf"{one}+(?![A-Za-z0-9]|['’][a-z]|-[A-Za-z0-9]|[+#]|\.[A-Za-z]\.)"
    if labels.isdigit():
        return r"(?<![\d.])", rf"{one}(?![\d%]|\.\d)"
    return "", one


def _other(labels: str) -> str:
    """A letter that is no label, where nothing can be meant but an answer."""
    return rf"(?P<found>(?![{re.escape(labels)}])[A-Z])(?=\s*(?:[.。)\]]|$|\n))"


def _small_group(labels: str) -> str:
    """Small letters, which are read only where no word can be meant: at the end of a sentence or before a reason."""
    small = f"[{re.escape(labels.lower())}]"
    return (
        rf"(?<![A-Za-z0-9])(?P<found>{small}(?:(?:\s*(?:[、,&]|和|与|\band\b)\s*|[ \t]+)[(]?{small}[)]?){{0,25}})"
        r"(?=\s*(?:[.。,;!)\]】\"'”’}>]|$|\n)|\s+(?:because|since)\b)"
    )
