"""Make raw English and French rows with synthetic PII of all 56 types: `python synthesize.py --rows 2000`.

A row is one whole skeleton of skeletons/en.txt or skeletons/fr.txt: `{TYPE}` becomes a labelled value, `{###}` digits
without a label. All values of a row come from one Faker locale; spans are counted while the text grows, never searched.
"""

import argparse
import contextlib
import gzip
import hashlib
import itertools
import json
import random
import re
import string
import time
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from datetime import date, timedelta
from pathlib import Path
from typing import NamedTuple

from common import Parser, UserError, atomic_path, positive_int, run

SKELETON_FOLDER = Path(__file__).parent / "skeletons"
PLACEHOLDER = re.compile(r"\{([A-Z][A-Z0-9]+|#+)\}")
LOCALES = {"en": ["en_US", "en_GB"], "fr": ["fr_FR"] * 3 + ["fr_CH", "fr_CA"]}
WITHOUT_PII = 0.08  # share of all rows
ENGLISH_VALUE = 0.05  # share of French rows in which one value is of an English locale
WRAPPED = 0.03  # share of the values of more than one word, of these types, that go over two lines
WRAPPABLE = {"STREET", "COMPANYNAME", "JOBTITLE", "ACCOUNTNAME", "SECONDARYADDRESS", "CITY", "USERAGENT"}
NAMES = {"FIRSTNAME", "MIDDLENAME", "LASTNAME"}
FRENCH_SPACE = re.compile(r" (?=[:;!?»%])|(?<=«) ")
FRENCH_SPACES = ["\u00a0"] * 6 + ["\u202f"] * 2 + [" ", ""]  # what people type there
SEPARATORS = {  # of thousands and of decimals
    "en_US": [",."] * 4 + ["."],
    "en_GB": [",."] * 4 + ["."],
    "fr_FR": ["\u00a0,", "\u00a0,", "\u202f,", " ,", ","],
    "fr_CH": ["'.", "'.", "’.", "\u00a0."],
    "fr_CA": ["\u00a0,", "\u00a0,", " ,", ","],
}
POOL_SIZE = 1500  # draws for a pool of Faker values
UNNATURAL = {
    "job": re.compile(r"[,(/]|.{45}|(\w{4})\w* \1|NDS|^(Land|Make|Copy|Sub)$"),
    "user_agent": re.compile(r"Gecko/\d{4}-|MSIE|Opera|Windows 9|\dl\d"),
}
MENDS = [  # slips of Faker's French locales
    (re.compile(r"^allé "), "allée "),
    (re.compile(r"\bde (?=[AEIOUÀÂÉÈÊÎÔ])"), "d'"),
    (re.compile(r" and Sons$"), " et Fils"),
    (re.compile(r" and "), " et "),
    (re.compile(r" (LLC|PLC|Inc|Ltd|Group)$"), " inc."),
    (re.compile(r"Sàrl\."), "Sàrl"),
]
SYMBOLS = {  # of PATTERNS
    "#": string.digits,
    "%": "123456789",
    "^": "ABCDEFGHJKLMNPRSTVWXYZ",
    "~": "0123456789abcdef",
    "§": "0123456789ABCDEF",
}
SYMBOL = re.compile(f"[{''.join(SYMBOLS)}]")
BASE58 = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
BECH32 = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"
# Value patterns, one key a line, `scope KEY one|other|...`. A scope is all, a language, a locale; the narrowest counts.
# `@method:60` is Faker's in 60% of the draws; for `#%^~§` see SYMBOLS; a last `!` is the Luhn check digit; `{KEY}` is
# another value, `{y}` and other small ones are parts of a date, time or address. What stands twice is likelier.
PATTERNS = """
all ACCOUNTNUMBER ########|%#########|%####### ###|##-##-## ########
all AREA 2##|3##|4##|5##|6##|7##|8##|9##
all CARD Visa:4##############!|VISA:4##############!|Visa:4##############!|Mastercard:51#############!
 |Mastercard:53#############!|MasterCard:55#############!|Mastercard:2221###########!|American Express:37############!
 |American Express:34############!|Diners Club:36###########!|Maestro:5018###########!|Discover:6011###########!
 |JCB:3528###########!
all COMPANYNAME @company
all CURRENCYCODE EUR|USD|GBP|CHF|CAD|JPY|AUD|SEK|NOK|PLN|INR|BRL|MXN|ZAR|SGD|TRY|CNY|KRW|MAD|NZD
all DOMAIN gmail.com|gmail.com|outlook.com|icloud.com|yahoo.com|example.com|example.org|{site}.{TLD}|{site}.{TLD}
 |proton.me
all EMAIL {first}.{last}@{DOMAIN}|{first}.{last}@{DOMAIN}|{f}{last}@{DOMAIN}|{first}{last}##@{DOMAIN}
 |{first}_{last}@{DOMAIN}|{last}.{first}@{DOMAIN}|{first}##@{DOMAIN}|{f}.{last}@{DOMAIN}|{first}-{last}@{DOMAIN}
all ETHEREUMADDRESS 0x~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~
all HEIGHT 15# cm|16# cm|17# cm|18# cm|1.6# m|1.7# m|1.8# m|17#cm|16#centimeters
all IP {IPV4}|{IPV4}|{IPV6}
all IPV4 {OCTET}.{OCTET}.{OCTET}.{OCTET}|%#.{OCTET}.{OCTET}.{OCTET}|192.168.{OCTET}.{OCTET}|10.{OCTET}.{OCTET}.{OCTET}
all IPV6 2a0%:~~~~:~~~~:~~~~:~~~~:~~~~:~~~~:~~~~|20%#:~~~~:~~~~:~~~~:~~~~:~~~~:~~~~:~~~~|2001:db8::%~~~:~~~~
 |fe80::%~~:~~ff:fe~~:~~~~|2a01:%~~~:~~~::%|fd%~:~~~~:~~~~::%~
all MAC ~~:~~:~~:~~:~~:~~|§§:§§:§§:§§:§§:§§|~~-~~-~~-~~-~~-~~|§§-§§-§§-§§-§§-§§|~~~~.~~~~.~~~~
all MASKEDNUMBER **** **** **** ####|************####|XXXX-XXXX-XXXX-####|xxxx####|****####|•••• ####|*####
 |%### **** **** ####|####XXXXXXXX####|%#####******####|XXXXXX####|**** ####|...####
all MIDDLE_F {GIVEN_F}
all MIDDLE_M {GIVEN_M}
all OCTET %|%#|%#|1##|1##|1##|20#|21#
all PHONEIMEI 35############!|35############!|35-######-######-!|35 ###### ###### !|35####-##-######-!
all PIN ####|####|####|######|%###
all STREET @street_name
all TLD com|org|net|io
all URL @uri:55|https://www.{site}.{TLD}|https://{site}.{TLD}/{PATH}|www.{site}.{TLD}|{site}.{TLD}/{PATH}
 |http://{site}.{TLD}/{PATH}
all USERAGENT @user_agent:50
 |Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/1##.0.0.0 Safari/537.36
 |Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/1#.# Safari/605.1.15
 |Mozilla/5.0 (X11; Linux x86_64; rv:1##.0) Gecko/20100101 Firefox/1##.0|curl/8.#.#|PostmanRuntime/7.%#.#
 |Mozilla/5.0 (Linux; Android 1#; K) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/1##.0.0.0 Mobile Safari/537.36
all USERNAME {first}.{last}|{f}{last}|{first}{last}##|{first}_##|{last}{f}|{first}####|{first}_{last}|x{last}x
 |{site}{first}
all VEHICLEVIN @vin
en ACCOUNTNAME Home Loan Account|Checking Account|Savings Account|Money Market Account|Credit Card Account
 |Investment Account|Auto Loan Account|Personal Loan Account|Current Account|Joint Savings Account|Student Account
 |Business Account
en COMPANYNAME @company:70|{SURNAME} & Co|{SURNAME} Logistics|{SURNAME} Dental|The {SURNAME} Foundation
 |{SURNAME} Motors Ltd|{SURNAME} Insurance|Bank of {SURNAME}|{SURNAME} & {SURNAME}|{SURNAME} Health|{SURNAME}Tech
 |North {SURNAME} Water
en CURRENCY US Dollar|dollars|pounds|Euro|euros|Pound Sterling|Swiss francs|Canadian dollars|yen|Rupee|Rand|USD|GBP
en CURRENCYNAME US Dollar|Pound Sterling|Euro|Swiss Franc|Canadian Dollar|Pakistan Rupee|Japanese Yen|Australian Dollar
 |Indian Rupee|Swedish Krona|Norwegian Krone|Danish Krone|Polish Zloty|Czech Koruna|Turkish Lira|South African Rand
 |Mexican Peso|Brazilian Real|Kuwaiti Dinar|Moroccan Dirham|Thai Baht|Philippine Peso|New Zealand Dollar|Won|Hryvnia
en EYECOLOR brown|blue|green|hazel|grey|amber|dark brown|light blue|Brown|Blue|Green|Hazel|blue-green
en GENDER woman|man|female|male|Female|Male|Woman|Man|Trans woman|Trans man|Cis woman|Cis man|Non-binary|Genderfluid
 |Agender|non-binary person|Two-spirit person|Intersex person|Bigender|Demigirl|Demiboy|Pangender|Gender nonconforming
en GIVEN_F @first_name_female:93|Aisha|Priya|Mei|Siobhán|Zoë|Fatima|Ngozi|Yuki|Xóchitl|Chloë|Svetlana|Mary-Ann|Leilani
 |Noor|Ewa|Inés|Hye-jin
en GIVEN_M @first_name_male:93|Mohammed|Raj|Wei|José|Olumide|Darragh|Björn|Kwame|Hiroshi|Dmitri|Jean-Luc|Tariq|Mateo
 |Søren|Arjun|Tomasz
en JOBAREA Marketing|Communications|Accounts|Accountability|Security|Research|Branding|Quality|Data|Operations
 |Optimization|Infrastructure|Usability|Interactions|Mobility|Integration|Creative|Assurance|Identity|Web|Program
 |Tactics|Human Resources|Legal|Finance|Procurement|Logistics|Customer Care|Metrics|Directives|Intranet|Response
 |Solutions|Sales
en JOBLEVEL Senior|Lead|Principal|Chief|Regional|Global|Junior|Corporate|District|National|Dynamic|Direct|Internal
 |International
en JOBTITLE @job:55|{JOBLEVEL} {JOBAREA} {JOBTYPE}|{JOBLEVEL} {JOBAREA} {JOBTYPE}|{JOBLEVEL} {JOBTYPE}
 |Senior Data Analyst|CEO|CTO|Nurse
en JOBTYPE Coordinator|Supervisor|Associate|Executive|Liaison|Officer|Manager|Engineer|Specialist|Director|Administrator
 |Architect|Analyst|Designer|Planner|Technician|Developer|Producer|Consultant|Assistant|Facilitator|Agent|Strategist
en MIDDLE_F {GIVEN_F}|{GIVEN_F}|{GIVEN_F}|{GIVEN_F}|^.|^
en MIDDLE_M {GIVEN_M}|{GIVEN_M}|{GIVEN_M}|{GIVEN_M}|^.|^
en MONTHS January|February|March|April|May|June|July|August|September|October|November|December
en ORDINALDIRECTION Northeast|Northwest|Southeast|Southwest|northeast|northwest|southeast|southwest|north-east
 |south-west
en PATH contact|news/####|shop/item-####|about-us|blog/20##/report|login?ref=####|docs/v#/start|jobs/#####
en SEX_F female|female|Female|F
en SEX_M male|male|Male|M
en SURNAME @last_name:95|O'Connor|Nguyen|Patel|Okafor|van der Berg|Garcia-Lopez|St. John|Müller|Kowalski|MacLeod
 |Al-Sayed|Li|D'Angelo
en TIME {h:02}:{min:02}|{h:02}:{min:02}|{h}:{min:02}|{h12}:{min:02} {half}|{h12}{half}|{h12}:{min:02}{half}
 |{h:02}:{min:02}:{sec:02}|{h12} {half}
en WEEKDAYS Monday|Tuesday|Wednesday|Thursday|Friday|Saturday|Sunday
en_US BIC ^^^^US3N|^^^^US##|^^^^US33XXX|^^^^US#^###
en_US BUILDINGNUMBER %##|%###|%####|%#
en_US CITY @city:60|Springfield|Portland|Austin|Denver|Boise|Tulsa|Chicago|Albany|Tampa|Reno|Omaha|El Paso|St. Louis
 |Salt Lake City|Houston|Phoenix|Seattle|Dallas|Columbus|Memphis|Tucson|Fresno|Oakland|Raleigh|Newark|Buffalo|Madison
 |Anchorage|Baton Rouge|Santa Fe|Des Moines|Grand Rapids|Las Cruces|Kalamazoo
en_US COUNTY Orange County|Cook County|Harris County|Kings County|Wayne County|Travis County|Fulton County|Essex County
 |Pima County|Clark County|Jackson County|Lake County|Monroe County|Madison County|Franklin County|Marion County
 |Dane County|Polk County|Miami-Dade County|Los Angeles County|Orleans Parish|Prince George's County|Allegheny County
 |Hennepin County|Washoe County
en_US CURRENCYSYMBOL $|$|$|$|$|$|€|£|¥|₹|kr|R$|₪|₱
en_US DATE {month} {d}, {y}|{m}/{d}/{y}|{m:02}/{d:02}/{y}|{m:02}/{d:02}/{y}|{y}-{m:02}-{d:02}|{mon} {d}, {y}
 |{m:02}-{d:02}-{y}|{weekday}, {month} {d}|{month} {d}{th}, {y}|{m}/{d}/{yy:02}
 |{y}-{m:02}-{d:02}T{h:02}:{min:02}:{sec:02}Z
en_US HEIGHT 5' %"|5'%"|6' 1"|5 feet % inches|5 ft % in|6 ft 2|17# cm|1.7# m|16#centimeters
en_US IBAN DE##################|GB^^^^##############
en_US NEARBYGPSCOORDINATE [40.%###,-74.####]|[34.####,-118.####]|[41.##,-87.##]|29.#####, -95.#####
 |[47.######,-122.######]|[39.####, -105.####]|25.####, -80.####|[3%.####,-9%.####]
en_US PHONENUMBER ({AREA}) {AREA}-####|{AREA}-{AREA}-####|+1 {AREA}-{AREA}-####|{AREA}.{AREA}.####|1-800-{AREA}-####
 |+1 ({AREA}) {AREA}-####|{AREA}{AREA}####|{AREA}-{AREA}-#### x###
en_US PREFIX_F Mrs.|Mrs.|Ms.|Ms.|Miss|Dr.|Prof.|Mx.
en_US PREFIX_M Mr.|Mr.|Mr.|Mr.|Dr.|Prof.|Mx.
en_US SECONDARYADDRESS Apt. %##|Apt. %#|Suite %##|Apt %B|Unit %|Floor %
en_US SSN 1##-%#-%###|2##-%#-%###|3##-%#-%###|4##-%#-%###|5##-%#-%###|7##-%#-%###|2## %# %###|4##%#%###
en_US STATE @state:75|TX|CA|NY|FL|WA|IL|OH|MA
en_US VEHICLEVRM %^^^###|^^^-####|^^^ ####|### ^^^|^^# ###
en_US ZIPCODE 1####|2####|3####|4####|6####|7####|9####|0%###|3####-####|8####-####
en_GB ADDRESSLETTERS A|B|D|E|F|G|H|J|L|N|P|Q|R|S|T|U|W|X|Y|Z
en_GB BIC ^^^^GB2L|^^^^GB##|^^^^GB2LXXX|^^^^GB2^###
en_GB BUILDINGNUMBER %|%#|%#|%##|%#A|%#B
en_GB CITY @city:60|London|Leeds|Bristol|Cardiff|Glasgow|York|Hull|Exeter|Norwich|Bath|Milton Keynes|Stoke-on-Trent
 |Belfast|Luton|Manchester|Liverpool|Sheffield|Edinburgh|Swansea|Leicester|Derby|Dundee|Aberdeen|Newcastle|Brighton
 |Carlisle|Truro|Wells|Lincoln|St Albans|Bury St Edmunds|Kingston upon Thames|Hay-on-Wye
en_GB COUNTY @county
en_GB CURRENCYSYMBOL £|£|£|£|£|£|€|€|$|¥|₹|zł|kr|₦
en_GB DATE {d} {month} {y}|{d}{th} {month} {y}|{d:02}/{m:02}/{y}|{d:02}/{m:02}/{y}|{d:02}-{m:02}-{y}|{y}-{m:02}-{d:02}
 |{d} {mon} {y}|{weekday} {d} {month}|{d:02}.{m:02}.{yy:02}|{d} {month}
en_GB HEIGHT 1.6# m|1.7# m|1.8# m|16# cm|17# cm|18# cm|5ft %in|6ft %in|5 ft %|16#centimeters
en_GB IBAN GB^^^^##############
en_GB NEARBYGPSCOORDINATE [51.####,-0.####]|[53.####,-2.####]|[55.##,-3.##]|52.#####, -1.#####|[54.######,-5.######]
 |[51.####, -2.####]|57.####, -4.####
en_GB PHONENUMBER 07### ######|07### ### ###|+44 7### ######|020 7### ####|(01632) ######|0161 ### ####|+44 20 7### ####
 |07#########
en_GB POSTCODEAREA SW%|EC%A|M%|M1#|B2#|B%|LS%|G4#|EH1#|CF1#|BS%|L%|NE%|OX%|CB%|N1#|SE1#|W%A|AB1#|BT%|YO3#|PL%|NR%|GL5#
en_GB PREFIX_F Mrs|Mrs|Ms|Ms|Miss|Dr|Prof|Mx
en_GB PREFIX_M Mr|Mr|Mr|Mr|Dr|Prof|Sir|Mx
en_GB SECONDARYADDRESS Flat %|Flat %#|Flat %#A|Studio %#|Unit %|Apartment %#|Flat %B
en_GB SSN AB ## ## ## C|CE ## ## ## A|JK######D|LM ## ## ## B|PR######A|SC ## ## ## D|WL######C|HX ## ## ## A|NB######B
en_GB STATE England|Scotland|Wales|Northern Ireland
en_GB STREET @street_name:80|High Street|Church Lane|Station Road|Victoria Road|Park Avenue|The Green|Mill Lane
 |King's Road|Queensway
en_GB TLD co.uk|co.uk|com|org
en_GB VEHICLEVRM ^^## ^^^|^^##^^^|^### ^^^
en_GB ZIPCODE {POSTCODEAREA} %{ADDRESSLETTERS}{ADDRESSLETTERS}|{POSTCODEAREA} #{ADDRESSLETTERS}{ADDRESSLETTERS}
fr ACCOUNTNAME Compte courant|Livret A|compte courant|Compte épargne|compte épargne|Compte de prêt immobilier
 |Compte joint|Compte de prêt personnel|Compte titres|Compte à terme|Compte professionnel|Compte du marché monétaire
 |Compte jeune
fr CARD Visa:4##############!|VISA:4##############!|Visa:4##############!|Mastercard:51#############!
 |Mastercard:53#############!|MasterCard:55#############!|Mastercard:2221###########!|American Express:37############!
 |American Express:34############!|Diners Club:36###########!|Maestro:5018###########!
fr CURRENCY euros|euros|francs suisses|dollars canadiens|dollars|livres sterling|Euro|EUR|francs CFA|yens|dirhams|dinars
fr CURRENCYNAME Euro|Franc suisse|Dollar canadien|Dollar américain|Livre sterling|Yen japonais|Couronne suédoise
 |Zloty polonais|Couronne norvégienne|Dirham marocain|Dinar tunisien|Dinar algérien|Franc CFA|Roupie indienne
 |Livre turque|Peso mexicain|Réal brésilien|Dollar australien|Rand sud-africain|Won sud-coréen|Forint|Leu roumain
 |Couronne tchèque|Livre libanaise
fr CURRENCYSYMBOL €|€|€|€|€|€|€|$|£|CHF|¥|₺|zł|F CFA
fr EYECOLOR bleus|marron|verts|noisette|gris|noirs|bleu clair|gris-vert|bleu-gris|Marron|Bleus|marron foncé|vairons
fr GENDER Femme|Homme|femme|homme|Femme trans|Homme trans|Femme cisgenre|Homme cisgenre|Non binaire|non binaire
 |Genre fluide|Agenre|Bigenre|Intersexe|Demi-fille|Demi-garçon|Pangenre|Personne bispirituelle
fr GIVEN_F @first_name_female:65|Fatima|Aïcha|Inès|Maëlys|Chloé|Mariam|Noémie|Leïla|Anne-Sophie|Thi Lan|Awa|Solène|Zoé
 |Maïa|Lucie|Emma|Kenza|Loïse|Marie-{GIVEN_F}|Anne-{GIVEN_F}|Agathe|Clémence|Léna|Jade|Romane|Éloïse|Salomé|Yasmine
 |Ophélie|Gwenaëlle|Mélina|Soraya|Manon|Charlène|Coralie|Elsa|Estelle|Fanny|Flavie|Gaëlle|Justine|Laura|Laëtitia|Lisa
 |Louise|Lola|Magali|Marine|Mélanie|Morgane|Nadia|Nathalie|Océane|Perrine|Rachel|Sabrina|Samira|Tiphaine|Valérie
 |Victoire|Clara|Anaïs|Axelle|Blandine|Cécile
fr GIVEN_M @first_name_male:62|Mohamed|Mehdi|Loïc|Gaël|Mathéo|Youssef|Théo|Enzo|Mamadou|Yann|Léo|Raphaël|Karim|Noé
 |Baptiste|Clément|Ibrahima|Jean-{GIVEN_M}|Pierre-{GIVEN_M}|Ewen|Maël|Jules|Arthur|Sacha|Bilal|Quentin|Rémi|Cédric
 |François-Xavier|Anatole|Malo|Alexis|Antonin|Aurélien|Axel|Basile|Cyril|Damien|Dylan|Étienne|Fabien|Fabrice|Florent
 |Gaspard|Jérémy|Jordan|Kévin|Killian|Ludovic|Lilian|Maxence|Martial|Nathan|Romain|Samuel|Sylvain|Tanguy|Tom|Valentin
 |Yannick|Yohan|Rachid|Samir|Moussa|Côme
fr HEIGHT 1,6# m|1,7# m|1,8# m|1m6#|1m7#|1m8#|1 m 7#|16# cm|17# cm|18# cm|15# cm
fr JOBAREA Marketing|Communication|Ressources humaines|Comptabilité|Achats|Juridique|Informatique|Logistique|Qualité
 |Recherche|Sécurité|Ventes|Formation|Maintenance|Finances|Données|Relations clients|Production|Stratégie
 |Assurance qualité|Image de marque|communication|marketing|comptabilité|Optimisation|Infrastructure|Opérations
 |Audit interne|Développement durable|Accueil
fr JOBLEVEL junior|senior|en chef|stagiaire|interne
fr JOBTITLE @job:70|{JOBTYPE} {JOBLEVEL}|{JOBTYPE} {JOBLEVEL}|directrice générale|infirmière|chargée de clientèle
 |aide-soignant
fr JOBTYPE coordinateur|coordinatrice|Coordinateur|superviseur|Superviseur|analyste|Analyste|gestionnaire|Gestionnaire
 |assistant|assistante|technicien|Technicienne|consultant|consultante|chargé de mission|Chargée de mission|directeur
 |Directrice|administrateur|architecte|concepteur|conseillère|planificateur|agent|animatrice|développeur|ingénieure
 |représentant|stratège
fr MONTHS janvier|février|mars|avril|mai|juin|juillet|août|septembre|octobre|novembre|décembre
fr ORDINALDIRECTION nord-est|nord-ouest|sud-est|sud-ouest|Nord-Est|Nord-Ouest|Sud-Est|Sud-Ouest|nord-nord-est
 |sud-sud-ouest
fr PATH contact|actualites/####|boutique/article-####|a-propos|blog/20##/bilan|connexion?ref=####|documents/##
 |emploi/####
fr PLACE sur-Loire|sur-Mer|en-Brie|les-Bains|du-Bois|la-Forêt|le-Vieux|sous-Bois|des-Champs|le-Château|sur-Seine
 |aux-Mines
fr PREFIX_F Mme|Mme|Mme|Madame|Mlle|Dr|Pr|Me
fr PREFIX_M M.|M.|M.|Monsieur|Dr|Pr|Me
fr SAINT Martin|Pierre|Germain|Aubin|Cyr|Maurice|Léger|Amand|Vincent|Hilaire|Sulpice|Médard|Benoît|Ouen|Brieuc|Julien
 |Mandé|Éloi|Ambroise|Félicien
fr SECONDARYADDRESS appt %|appt %#|Apt. %##|bât. ^|bâtiment ^|%e étage|résidence ^, appt %#|escalier %|Appartement %#
fr SEX_F féminin|féminin|F|Féminin
fr SEX_M masculin|masculin|M|Masculin
fr SURNAME @last_name:88|Nguyen|Diallo|Benali|Traoré|El Amrani|Da Silva|Le Goff|de La Tour|d'Aboville|Haddad|Cissé|Rossi
 |Kowalski|Öztürk|Ben Salah|{SURNAME}-{SURNAME}|{SURNAME}-{SURNAME}|{SURNAME}-{SURNAME}|Le Bihan|Yılmaz|Ndiaye|Pham
 |Le Gall|Etcheverry|Hoarau|M'Barek|L'Hermite|Guéguen|Zidane|Nzeyimana|Tran|Keïta
fr TIME {h}h{min:02}|{h}h{min:02}|{h} h {min:02}|{h}h|{h:02}:{min:02}|{h:02}:{min:02}:{sec:02}|{h} heures
 |{h:02}h{min:02}
fr TOWN Villeneuve|Châteauneuf|Neuville|Montfort|Beaumont|Villers|Champigny|Fontenay|Bellegarde|Rochefort|Beaulieu
 |Marigny|Chaumont|Mareuil|Ferrières
fr WEEKDAYS lundi|mardi|mercredi|jeudi|vendredi|samedi|dimanche
fr_FR BIC ^^^^FRPP|^^^^FR##|^^^^FRPPXXX|^^^^FRPP###|^^^^FR2^
fr_FR BUILDINGNUMBER %|%#|%#|%##|%# bis|% ter|%#B
fr_FR CARD Visa:4##############!|VISA:4##############!|Visa:4##############!|Mastercard:51#############!
 |Mastercard:53#############!|MasterCard:55#############!|Mastercard:2221###########!|American Express:37############!
 |American Express:34############!|Diners Club:36###########!|Maestro:5018###########!|Carte Bleue:4970###########!
 |CB:4974###########!|CB:4973###########!
fr_FR CITY Nantes|Lyon|Bordeaux|Marseille|Lille|Rennes|Strasbourg|Toulouse|Nice|Grenoble|Dijon|Angers|Brest|Reims|Paris
 |Tours|Metz|Limoges|Amiens|Perpignan|Besançon|Orléans|Rouen|Mulhouse|Caen|Nancy|Avignon|Poitiers|Pau|La Rochelle|Calais
 |Antibes|Béziers|Quimper|Valence|Ajaccio|Saint-Étienne|Aix-en-Provence|Clermont-Ferrand|Saint-Denis|Vannes|Cholet|Albi
 |Arles|Évreux|Nevers|Châteauroux|Saint-{SAINT}|Saint-{SAINT}-{PLACE}|Saint-{SAINT}-{PLACE}|{TOWN}-{PLACE}
 |{TOWN}-{PLACE}|{TOWN}-{PLACE}|{TOWN}
fr_FR COMPANYNAME @company:45|{SURNAME} SARL|Cabinet {SURNAME}|Boulangerie {SURNAME}|{SURNAME} & Fils
 |Transports {SURNAME}|Groupe {SURNAME}|{SURNAME} et Associés|Garage {SURNAME}|Établissements {SURNAME}
 |Pharmacie {SURNAME}|Menuiserie {SURNAME} SAS|SCI {SURNAME}
fr_FR COUNTY @department_name
fr_FR DATE {day} {month} {y}|{day} {month} {y}|{d:02}/{m:02}/{y}|{d:02}/{m:02}/{y}|{weekday} {day} {month} {y}
 |{d:02}-{m:02}-{y}|{d:02}.{m:02}.{y}|{d:02}/{m:02}/{yy:02}|{day} {month}|{y}-{m:02}-{d:02}
fr_FR DOMAIN gmail.com|orange.fr|free.fr|laposte.net|wanadoo.fr|hotmail.fr|sfr.fr|{site}.{TLD}|{site}.{TLD}|example.com
 |yahoo.fr
fr_FR IBAN FR#####################
fr_FR NEARBYGPSCOORDINATE [48.####,2.####]|[45.####,4.####]|[43.##,5.##]|47.#####, -1.#####|[43.######,1.######]
 |[48.####, 7.####]|44.####, -0.####
fr_FR PHONENUMBER 06 ## ## ## ##|06 ## ## ## ##|07 ## ## ## ##|01 ## ## ## ##|+33 6 ## ## ## ##|0%########
 |06.##.##.##.##|+33 (0)4 ## ## ## ##|06-##-##-##-##|0033 6 ## ## ## ##|05 ## ## ## ##
fr_FR SSN {NIR}
fr_FR STATE Bretagne|Île-de-France|Occitanie|Normandie|Nouvelle-Aquitaine|Grand Est|Hauts-de-France|Pays de la Loire
 |Corse|Bourgogne-Franche-Comté|Centre-Val de Loire|Auvergne-Rhône-Alpes|Provence-Alpes-Côte d'Azur|La Réunion
 |Martinique|Guadeloupe
fr_FR STREET @street_name:75|rue Victor Hugo|avenue de la République|place de la Mairie|rue de l'Église
 |boulevard Voltaire|allée des Tilleuls|chemin des Vignes|impasse du Moulin|quai de la Fosse|rue du Général de Gaulle
 |rue des Écoles|route de Paris|cours Mirabeau
fr_FR TLD fr|fr|com|net
fr_FR VEHICLEVRM ^^-###-^^|^^-###-^^|^^ ### ^^|^^###^^|%### ^^ %#
fr_FR ZIPCODE 0%###|1####|2%###|3####|4####|5####|6####|7####|8####|91###|92###|93###|94###|95###|97###|750##|690##
fr_CH ACCOUNTNUMBER 1#-%#####-#|10-#####-#|%### ####.##|########
fr_CH BIC ^^^^CHZZ|^^^^CH22|^^^^CHZZ80A|^^^^CHGG
fr_CH BUILDINGNUMBER %|%#|%##|%#A|%bis
fr_CH CITY Lausanne|Genève|Neuchâtel|Fribourg|Sion|Delémont|Yverdon-les-Bains|Montreux|Vevey|Nyon|Morges|Bulle|Martigny
 |Monthey|Sierre|Porrentruy|Renens|Carouge|Meyrin|Gland|Aigle|Payerne|Moutier|Bienne|Vernier|Onex|Pully|Prilly|Berne
 |Bâle|Saint-{SAINT}|Villars-Sainte-Croix|Corcelles|Cossonay|Avenches|Romont|Bex|Saint-Imier|Tramelan
fr_CH COMPANYNAME @company:45|{SURNAME} SA|{SURNAME} & Cie|Garage {SURNAME}|Fiduciaire {SURNAME} Sàrl
 |{SURNAME} Frères SA|Cave {SURNAME}
fr_CH COUNTY district de Nyon|district de Lavaux-Oron|district de la Gruyère|Jura bernois|district de Morges
 |district du Lac|Sarine|Val-de-Travers|district d'Aigle|Broye-Vully|Ouest lausannois|district de Conthey|Ajoie
 |Franches-Montagnes|district de Sierre
fr_CH CURRENCYSYMBOL CHF|CHF|CHF|Fr.|fr.|€|$|£
fr_CH DATE {day} {month} {y}|{d:02}.{m:02}.{y}|{d:02}.{m:02}.{y}|{d}.{m}.{y}|{d:02}/{m:02}/{y}|{weekday} {day} {month}
 |{d:02}.{m:02}.{yy:02}
fr_CH DOMAIN gmail.com|bluewin.ch|gmx.ch|hotmail.ch|{site}.{TLD}|{site}.{TLD}|sunrise.ch|example.com
fr_CH IBAN CH#################
fr_CH NEARBYGPSCOORDINATE [46.####,6.####]|[46.####,7.####]|[47.##,6.##]|46.#####, 6.#####|[47.######,7.######]
 |[46.####, 7.####]|47.####, 7.####
fr_CH PHONENUMBER 079 ### ## ##|+41 79 ### ## ##|021 ### ## ##|+41 22 ### ## ##|076 ### ## ##|0041 26 ### ## ##
 |078#######
fr_CH SSN {AHV}
fr_CH STATE @canton_name
fr_CH TLD ch|ch|com
fr_CH VEHICLEVRM VD %#####|GE %#####|FR %#####|NE %#####|VS %#####|JU %####|BE %#####|VD-%#####
fr_CH ZIPCODE 10##|12##|17##|19##|20##|28##|1%##|CH-1###
fr_CA BIC ^^^^CA##|^^^^CAMM|^^^^CATTXXX|^^^^CAM#
fr_CA BUILDINGNUMBER %##|%###|%####|%#
fr_CA CITY Montréal|Québec|Laval|Gatineau|Longueuil|Sherbrooke|Lévis|Trois-Rivières|Rimouski|Saguenay|Drummondville
 |Moncton|Granby|Saint-Hyacinthe|Shawinigan|Rouyn-Noranda|Sept-Îles|Val-d'Or|Alma|Magog|Baie-Comeau|Joliette|Sorel-Tracy
 |Terrebonne|Saint-{SAINT}|Saint-{SAINT}|Saint-{SAINT}-{PLACE}|Lac-{SAINT}|Mont-{SAINT}|Ottawa|Sudbury|Edmundston
fr_CA COMPANYNAME @company:50|Groupe {SURNAME}|Les Entreprises {SURNAME} inc.|{SURNAME} et {SURNAME}|Dépanneur {SURNAME}
 |{SURNAME} & Fils
fr_CA COUNTY MRC de Charlevoix|MRC de Brome-Missisquoi|MRC de Portneuf|MRC de Memphrémagog|MRC des Collines
 |MRC de Bellechasse|MRC des Laurentides|comté de Gloucester|comté de Kent|MRC de Maskinongé|MRC de Lotbinière
 |MRC d'Antoine-Labelle|Montérégie
fr_CA CURRENCYSYMBOL $|$|$|$|$|€|£|¥
fr_CA DATE {day} {month} {y}|{day} {month} {y}|{y}-{m:02}-{d:02}|{y}-{m:02}-{d:02}|{d:02}/{m:02}/{y}
 |{weekday} {day} {month}|{d:02}-{m:02}-{y}
fr_CA DOMAIN gmail.com|videotron.ca|sympatico.ca|outlook.com|{site}.{TLD}|{site}.{TLD}|hotmail.com|example.com
fr_CA HEIGHT 1,6# m|1,7# m|1,8# m|5 pi %|5 pi % po|6 pi 1 po|17# cm|16# cm
fr_CA IBAN FR#####################|LU################|BE############|GB^^^^##############
fr_CA NEARBYGPSCOORDINATE [45.####,-73.####]|[46.####,-71.####]|[48.##,-68.##]|45.#####, -75.#####
 |[46.######,-72.######]|[48.####, -71.####]|47.####, -70.####
fr_CA PHONENUMBER 514-{AREA}-####|418-{AREA}-####|(450) {AREA}-####|819 {AREA}-####|438.{AREA}.####|+1 514 {AREA}-####
 |1 800 {AREA}-####|581{AREA}####
fr_CA POSTCODELETTERS A|B|C|E|H|J|K|L|M|N|P|R|S|T|V|X
fr_CA SECONDARYADDRESS app. %|app. %##|bureau %##|Suite %##|local %#|unité %|App. %#
fr_CA SSN 1## ### ##!|2## ### ##!|4##-###-##!|5##-###-##!|6## ### ##!|7#######!
fr_CA STATE @province:55|Québec
fr_CA TLD ca|qc.ca|com
fr_CA VEHICLEVRM ^## ^^^|^##^^^|### ^^^|^^^ ###
fr_CA ZIPCODE H#{POSTCODELETTERS} #{POSTCODELETTERS}#|G#{POSTCODELETTERS} #{POSTCODELETTERS}#
 |J#{POSTCODELETTERS}#{POSTCODELETTERS}#
"""


class Source(NamedTuple):
    """Where the values of one key come from in one locale."""

    pool: list[str]  # of Faker
    share: float  # of draws from the pool
    patterns: list[str]


Sources = dict[str, dict[str, Source]]  # locale, key


def read_sources(seed: int) -> Sources:
    """For each locale and key what PATTERNS holds in the narrowest scope."""
    scopes: dict[str, dict[str, list[str]]] = {}
    for line in PATTERNS.strip().replace("\n |", "|").splitlines():
        scope, key, patterns = line.split(" ", 2)
        scopes.setdefault(scope, {})[key] = patterns.split("|")
    sources: Sources = {}
    for locale in dict.fromkeys(LOCALES["en"] + LOCALES["fr"]):
        sources[locale] = {}
        for key, patterns in (scopes["all"] | scopes[locale[:2]] | scopes[locale]).items():
            pool, share = [], 0.0
            if patterns[0].startswith("@"):
                method, _, percent = patterns[0][1:].partition(":")
                pool, share, patterns = faker_pool(method, locale, seed), float(percent or 100) / 100, patterns[1:]
            sources[locale][key] = Source(pool, share, patterns)
        forms = [form for form in sources[locale]["DATE"].patterns if "{y" in form and "{weekday}" not in form]
        sources[locale]["DOB"] = Source([], 0.0, forms)
    return sources


def faker_pool(method: str, locale: str, seed: int) -> list[str]:
    """Distinct values of a Faker method, mended, without those that no person writes."""
    try:
        from faker import Faker  # here, so that --help and an import of this module do without it
    except ImportError:
        raise UserError("Faker is not installed; run: pip install Faker") from None
    locale_of_method = "fr_FR" if (locale, method) == ("fr_CA", "job") else locale  # jobs of fr_CA are English
    fake = Faker(locale_of_method, use_weighting=False)  # rare names are as good as common ones, and faster
    fake.seed_instance(f"{seed} {locale} {method}")
    values = dict.fromkeys(getattr(fake, method)() for _ in range(POOL_SIZE))
    for pattern, replacement in MENDS if locale.startswith("fr") else []:
        values = dict.fromkeys(pattern.sub(replacement, value) for value in values)
    return [value for value in values if method not in UNNATURAL or not UNNATURAL[method].search(value)]


class Values:
    """The values of one row: `values["CITY"]` draws one. Locale, person and payment card stay within a row."""

    def __init__(self, rng: random.Random, sources: Sources) -> None:
        self.rng, self.sources = rng, sources

    def start_row(self, locale: str) -> None:
        """Forget the person and the card of the row before."""
        self.locale = locale
        self.parts: dict[str, str | int] = {}
        self.forms: dict[tuple[str, str], str] = {}
        self.issuer, _, self.card = self.rng.choice(self.sources[locale]["CARD"].patterns).partition(":")
        self.day = date(2012, 1, 1) + timedelta(days=self.rng.randrange(15 * 365))
        self.new_person()

    def new_person(self) -> None:
        self.person: dict[str, str] = {}
        self.sex = self.rng.choice("FM")
        years = self.rng.choice([(18, 90)] * 19 + [(3, 18)])
        self.born = self.day - timedelta(days=self.rng.randrange(years[0] * 366, years[1] * 365))

    def meet(self, label: str) -> None:
        """Take the person of the row as long as that one has no `label` yet, then a new one."""
        if label in self.person:
            self.new_person()
        self.person[label] = ""

    def __getitem__(self, key: str) -> str | int:
        if key in self.parts:
            return self.parts[key]
        return MAKERS[key](self) if key in MAKERS else self.pick(key)

    def pick(self, key: str) -> str:
        """One of Faker's values or a filled pattern."""
        source = self.sources[self.locale][key]
        if self.rng.random() < source.share:
            return self.rng.choice(source.pool)
        return self.expand(self.rng.choice(source.patterns))

    def expand(self, pattern: str) -> str:
        """Fill a pattern: its symbols with random characters, then its `{KEY}` with values."""
        text = SYMBOL.sub(lambda match: self.rng.choice(SYMBOLS[match[0]]), pattern)
        if text.endswith("!"):
            text = text[:-1] + luhn_digit(text)
        return text.format_map(self) if "{" in text else text


def of_person(label: str, key: str) -> Callable[[Values], str]:
    """A maker of PREFIX, FIRSTNAME, ... that agrees with the sex of the person."""

    def make(values: Values) -> str:
        values.meet(label)
        values.person[label] = values.pick(key.format(sex=values.sex))
        return values.person[label]

    return make


def of_contact(label: str) -> Callable[[Values], str]:
    """A maker of EMAIL, USERNAME, URL out of the name of the row's person, in ASCII as addresses are."""

    def make(values: Values) -> str:
        first = slug(values.person.get("FIRSTNAME") or values.pick(f"GIVEN_{values.sex}"))
        last = slug(values.person.get("LASTNAME") or values.pick("SURNAME"))
        values.parts = {"first": first, "last": last, "f": first[0], "site": slug(values.pick("SURNAME"))}
        return values.pick(label)

    return make


def slug(name: str) -> str:
    return re.sub("[^a-z-]", "", unicodedata.normalize("NFKD", name.lower().replace("ø", "o")))


def age(values: Values) -> str:
    values.meet("AGE")
    return str((values.day - values.born).days * 100 // 36525)


def next_day(values: Values) -> date:
    values.day += timedelta(days=values.rng.randrange(40))  # a row's dates follow one another
    return values.day


def of_moment(key: str, draw_day: Callable[[Values], date]) -> Callable[[Values], str]:
    """A maker of a day and a time of day, written by a pattern of `key` that a row sticks to."""

    def make(values: Values) -> str:
        rng, sources, day = values.rng, values.sources[values.locale], draw_day(values)
        ordinal = "th" if day.day in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(day.day % 10, "th")
        month, weekday = sources["MONTHS"].patterns[day.month - 1], sources["WEEKDAYS"].patterns[day.weekday()]
        hour = rng.choice([0, *range(6, 24), *range(8, 20)])
        values.parts = {"d": day.day, "th": ordinal, "day": "1er" if day.day == 1 else day.day, "weekday": weekday}
        values.parts |= {"m": day.month, "month": month, "mon": month[:3], "y": day.year, "yy": day.year % 100}
        values.parts |= {"h": hour, "h12": hour % 12 or 12, "half": "pm" if hour > 11 else "am"}
        values.parts |= {"min": rng.randrange(60), "sec": rng.randrange(60)}
        return values.expand(values.forms.setdefault((values.locale, key), rng.choice(sources[key].patterns)))

    return make


def amount(values: Values) -> str:
    """Money from 5 to 900,000, its thousands and decimals separated as the locale does."""
    separators = values.rng.choice(SEPARATORS[values.locale])
    text = f"{int(10 ** values.rng.uniform(0.7, 5.95)):,}".replace(",", separators[:-1])
    return text if values.rng.random() < 0.3 else text + separators[-1] + values.expand("##")


def groups(text: str, *cuts: int) -> list[str]:
    return [text[start:end] for start, end in itertools.pairwise([0, *cuts, len(text)])]


def luhn_digit(number: str) -> str:
    """The check digit of ISO/IEC 7812-1 that belongs after the digits of `number`."""
    doubled = [int(d) * (2 - i % 2) for i, d in enumerate(re.findall(r"\d", number)[::-1])]
    return str(-sum(d - 9 * (d > 9) for d in doubled) % 10)


def card_number(values: Values) -> str:
    number = values.expand(values.card)
    cuts = (4, 8, 12) if len(number) == 16 else (4, 10)
    return values.rng.choice(["", "", " ", " ", "-"]).join(groups(number, *cuts))


def card_code(values: Values) -> str:
    return values.expand("####" if values.issuer == "American Express" else "###")


def iban(values: Values) -> str:
    """ISO 13616: country, check digits modulo 97, national number. French ones end with a key of their own."""
    pattern = values.pick("IBAN")
    country, account = pattern[:2], pattern[2:]
    if country == "FR":
        bank, branch, number = (int(part) for part in groups(account, 5, 10))
        account += f"{97 - (89 * bank + 15 * branch + 3 * number) % 97:02}"
    check = 98 - int("".join(str(int(c, 36)) for c in f"{account}{country}00")) % 97
    text = f"{country}{check:02}{account}"
    return text if values.rng.random() < 0.5 else " ".join(re.findall(".{1,4}", text))


def french_nir(values: Values) -> str:
    """Sex, year, month, department, commune, order and 97 less that number modulo 97; 2A counts as 19, 2B as 18."""
    rng = values.rng
    department = rng.choice([*(f"{n:02}" for n in range(1, 96) if n != 20), "2A", "2B"])
    number = f"{'12'[values.sex == 'F']}{values.born:%y%m}{department}"
    number += f"{rng.randint(1, 500):03}{rng.randint(1, 600):03}"
    key = 97 - int(number.replace("2A", "19").replace("2B", "18")) % 97
    return rng.choice(["", " "]).join(groups(f"{number}{key:02}", 1, 3, 5, 7, 10, 13))


def swiss_ahv(values: Values) -> str:
    number = values.expand("756#########")
    check = -sum(int(d) * (1 + 2 * (i % 2)) for i, d in enumerate(number)) % 10  # as in EAN-13
    return values.rng.choice([".", ".", ""]).join(groups(f"{number}{check}", 3, 7, 11))


def of_coin(versions: list[int], prefix: str) -> Callable[[Values], str]:
    """A maker of Bitcoin or Litecoin addresses: Base58Check mostly, Bech32 sometimes."""

    def make(values: Values) -> str:
        rng = values.rng
        return bech32(prefix, rng) if rng.random() < 0.3 else base58(rng.choice(versions), rng)

    return make


def base58(version: int, rng: random.Random) -> str:
    """Base58Check of a version byte and a random 20-byte hash."""
    payload = bytes([version]) + rng.randbytes(20)
    payload += hashlib.sha256(hashlib.sha256(payload).digest()).digest()[:4]
    number, text = int.from_bytes(payload, "big"), ""
    while number:
        number, digit = divmod(number, 58)
        text = BASE58[digit] + text
    return "1" * (len(payload) - len(payload.lstrip(b"\0"))) + text


def bech32(prefix: str, rng: random.Random) -> str:
    """BIP 173 address of a random 20-byte hash, witness version 0."""
    data = [0] + [rng.randrange(32) for _ in range(32)]
    check = 1
    for value in [ord(c) >> 5 for c in prefix] + [0] + [ord(c) & 31 for c in prefix] + data + [0] * 6:
        top, check = check >> 25, (check & 0x1FFFFFF) << 5 ^ value
        for bit, term in enumerate((0x3B6A57B2, 0x26508E6D, 0x1EA119FA, 0x3D4233DD, 0x2A1462B3)):
            check ^= term if top >> bit & 1 else 0
    data += [(check ^ 1) >> 5 * (5 - i) & 31 for i in range(6)]
    return f"{prefix}1{''.join(BECH32[value] for value in data)}"


def password(values: Values) -> str:
    rng = values.rng
    if rng.random() < 0.4:
        tail = values.expand(rng.choice(["####", "##$", "_%#", "@20##", "*%#?", "-#-^"]))
        return values.pick("SURNAME").replace(" ", "") + tail
    return "".join(rng.choices(string.ascii_letters + string.digits * 2 + "!#$%&*+-=?@_", k=rng.randint(8, 14)))


def street(values: Values) -> str:
    name = values.pick("STREET")  # a small letter within a French sentence, often a capital in an address
    return name[0].upper() + name[1:] if values.rng.random() < 0.35 else name


MAKERS: dict[str, Callable[[Values], str]] = {  # types that PATTERNS alone cannot make
    "AGE": age,
    "AHV": swiss_ahv,
    "AMOUNT": amount,
    "BITCOINADDRESS": of_coin([0, 0, 5], "bc"),
    "CREDITCARDCVV": card_code,
    "CREDITCARDISSUER": lambda values: values.issuer,
    "CREDITCARDNUMBER": card_number,
    "DATE": of_moment("DATE", next_day),
    "DOB": of_moment("DOB", lambda values: values.born),
    "EMAIL": of_contact("EMAIL"),
    "FIRSTNAME": of_person("FIRSTNAME", "GIVEN_{sex}"),
    "IBAN": iban,
    "LASTNAME": of_person("LASTNAME", "SURNAME"),
    "LITECOINADDRESS": of_coin([48, 48, 50], "ltc"),
    "MIDDLENAME": of_person("MIDDLENAME", "MIDDLE_{sex}"),
    "NIR": french_nir,
    "PASSWORD": password,
    "PREFIX": of_person("PREFIX", "PREFIX_{sex}"),
    "SEX": lambda values: values.pick(f"SEX_{values.sex}"),
    "STREET": street,
    "TIME": of_moment("TIME", lambda values: values.day),
    "URL": of_contact("URL"),
    "USERNAME": of_contact("USERNAME"),
}


def read_skeletons(language: str) -> list[str]:
    """The blocks of skeletons/<language>.txt; a French space that may not break is U+00A0 in what is returned."""
    text = (SKELETON_FOLDER / f"{language}.txt").read_text(encoding="utf-8")
    skeletons = [block.strip("\n") for block in text.split("\n---\n")]
    return [FRENCH_SPACE.sub("\u00a0", skeleton) for skeleton in skeletons] if language == "fr" else skeletons


def deal(skeletons: list[str], count: int, rng: random.Random) -> list[str]:
    """`count` skeletons, each as often as the others, so that rare types are certain to occur."""
    rounds, rest = divmod(count, len(skeletons))
    return skeletons * rounds + rng.sample(skeletons, rest)


def wrap(value: str, rng: random.Random) -> str:
    """Break the line at one of the spaces, as letters and copied PDF text do."""
    spaces = [i for i, character in enumerate(value) if character == " "]
    if not spaces or rng.random() >= WRAPPED:
        return value
    place = rng.choice(spaces)
    return f"{value[:place]}\n{value[place + 1 :]}"


def make_row(skeleton: str, language: str, values: Values) -> dict:
    """Fill one skeleton: `{"unmasked_text", "span_labels": [[start, end, label], ...], "language"}`."""
    rng = values.rng
    locale = rng.choice(LOCALES[language])
    values.start_row(locale)
    case = rng.choices([str, str.upper, str.lower], [96.5, 1.5, 2])[0]
    capitals = rng.choices([set(), NAMES, {"LASTNAME"}], [93, 4, 3])[0]
    french_space = rng.choice(FRENCH_SPACES)
    parts = PLACEHOLDER.split(skeleton)  # text, key, text, key, ..., text
    places = [i for i in range(1, len(parts), 2) if not parts[i].startswith("#")]
    english = rng.choice(places) if places and language == "fr" and rng.random() < ENGLISH_VALUE else None
    text, spans = "", []
    for i, part in enumerate(parts):
        if i % 2 == 0:
            text += case(part).replace("\u00a0", french_space)
        elif i not in places:
            text += values.expand("%" + part[1:])
        else:
            values.locale = rng.choice(LOCALES["en"]) if i == english else locale
            value = values[part]
            value = wrap(value, rng) if part in WRAPPABLE else value
            value = case(value) if part in NAMES else value
            value = value.upper() if part in capitals else value
            spans.append([len(text), len(text) + len(value), part])
            text += value
    return {"unmasked_text": text, "span_labels": spans, "language": language}


def synthesize(rows: int, seed: int) -> Iterator[dict]:
    """Yield `rows` rows, half English and half French in mixed order; the same arguments give the same rows."""
    rng = random.Random(seed)
    values = Values(rng, read_sources(seed))
    plan = []
    for language, count in (("en", rows - rows // 2), ("fr", rows // 2)):
        skeletons = read_skeletons(language)
        with_pii = [skeleton for skeleton in skeletons if re.search(r"\{[A-Z]", skeleton)]
        without_pii = [skeleton for skeleton in skeletons if skeleton not in with_pii]
        rare = round(count * WITHOUT_PII)
        dealt = deal(without_pii, rare, rng) + deal(with_pii, count - rare, rng)
        plan += [(skeleton, language) for skeleton in dealt]
    rng.shuffle(plan)
    for skeleton, language in plan:
        yield make_row(skeleton, language, values)


def write_rows(rows: Iterable[dict], path: Path) -> Counter:
    """Write JSON Lines and return how many spans of each label they hold."""
    labels: Counter = Counter()
    with contextlib.ExitStack() as stack:
        file = stack.enter_context(stack.enter_context(atomic_path(path)).open("wb"))
        if path.suffix == ".gz":  # without name and time, so that the same rows are the same bytes
            file = stack.enter_context(gzip.GzipFile("", "wb", compresslevel=6, fileobj=file, mtime=0))
        for row in rows:
            file.write(json.dumps(row, ensure_ascii=False).encode() + b"\n")
            labels.update(label for _, _, label in row["span_labels"])
    return labels


def parse_arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = Parser(description="Make raw rows with synthetic PII of all 56 types.")
    parser.add_argument("--rows", type=positive_int, default=2000, help="how many, half of them French (%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="the same seed gives the same bytes (%(default)s)")
    parser.add_argument("--output", type=Path, default=Path("data/raw/synthetic.jsonl"), help=".jsonl or .jsonl.gz")
    arguments = parser.parse_args(argv)
    if arguments.output.is_dir():
        raise UserError(f"{arguments.output} is a folder; give --output the name of a file")
    return arguments


def main(argv: list[str] | None = None) -> None:
    arguments = parse_arguments(argv)
    started = time.perf_counter()
    try:
        labels = write_rows(synthesize(arguments.rows, arguments.seed), arguments.output)
        size = arguments.output.stat().st_size
    except OSError as error:
        raise UserError(f"{error.filename}: {error.strerror}; give --output a place that can be written") from None
    counts = f"{arguments.rows:,} rows with {labels.total():,} spans of {len(labels)} types"
    print(f"{arguments.output}: {counts}, {size / 1e6:.1f} MB in {time.perf_counter() - started:.1f} s")
    print(f"next: python prepare.py --input {arguments.output}")


if __name__ == "__main__":
    run(main)
